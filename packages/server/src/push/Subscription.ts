import type { PushDeliveryRow, PushSubscriptionRow } from "@postilion/gateway/records/Tables"
import type { Channel, Hearer, Receiver } from "./Channel.ts"

/** How often, so far, a message was told in vain, and when it is told again. */
interface Retry {
  readonly attempt: number
  readonly dueAt: number
  /** The dead letter it was, where a person had it told again. */
  readonly letter: string | undefined
}
/** A message that was told, and is not done with. */
interface Flight {
  readonly attempt: number
  deadline: number
  readonly letter: string | undefined
}
/** What is to be told next. */
export interface Next {
  readonly seq: number
  readonly attempt: number
  readonly letter: string | undefined
}

/** As many times `maxInFlight` a subscription may be ahead of the first message that is not done with. */
const MOST_AHEAD = 10

/** JSON, because no name is ours to forbid a character: no two subscriptions are one. */
export const keyOf = ({ channel, name, principal }: Pick<PushSubscriptionRow, "channel" | "name" | "principal">) =>
  JSON.stringify([channel, principal, name])

/**
 * How far a principal has come in a channel, by a name. Every message up to `told` is done with, in flight, to be told again, or
 * was missed; `acked` is where the first that is not done with comes after.
 *
 * Plain code: what of it lasts is written by `PushRecords`, which loads it again when that fails.
 */
export class Subscription {
  readonly channel: Channel
  readonly principal: string
  readonly name: string
  readonly key: string
  acked: number
  seenAt: number
  /** After `acked`, and done with all the same. */
  readonly settled = new Set<number>()
  readonly retries = new Map<number, Retry>()
  readonly inFlight = new Map<number, Flight>()
  /** Those that have a row in the records besides the subscription's; not that of a dead letter, which stays. */
  readonly rows = new Set<number>()
  told: number
  hearer: (Hearer & { readonly receiver: Receiver }) | undefined
  /** When it is seen to. */
  alarm = Number.POSITIVE_INFINITY

  constructor(channel: Channel, { acked_seq, channel: _, name, principal, seen_at }: PushSubscriptionRow) {
    this.channel = channel
    this.principal = principal
    this.name = name
    this.key = keyOf({ channel: channel.name, name, principal })
    this.acked = acked_seq
    this.told = acked_seq
    this.seenAt = seen_at
  }
  /** Its columns in the records. */
  get ref() {
    return { channel: this.channel.name, principal: this.principal, name: this.name }
  }
  /** Takes what the records have in place of what it had. */
  load({ acked_seq, seen_at }: PushSubscriptionRow): void {
    for (const known of [this.settled, this.retries, this.inFlight, this.rows]) known.clear()
    this.acked = acked_seq
    this.told = acked_seq
    this.seenAt = seen_at
  }
  loadDelivery({ attempt, due_at, id, seq, state }: PushDeliveryRow): void {
    if (state !== "dead") this.rows.add(seq)
    if (state === "retrying" || state === "replayed") {
      this.retries.set(seq, { attempt, dueAt: due_at, letter: id ?? undefined })
    } else if (seq > this.acked) this.settled.add(seq)
  }
  /** The messages between that are not kept any more, as many as it does not know: told from here on as missing. */
  skipMissing(): number {
    const { first } = this.channel
    if (this.told >= first - 1) return 0
    let missed = first - 1 - this.told
    for (const seq of this.settled) if (seq > this.told && seq < first) missed -= 1
    for (const [seq, { letter }] of this.retries) {
      if (seq <= this.told || seq >= first) continue
      if (letter !== undefined) missed -= 1
      else this.retries.delete(seq)
    }
    this.told = first - 1
    return missed
  }
  next(now: number): Next | undefined {
    const { maxInFlight } = this.channel.settings
    if (this.inFlight.size >= maxInFlight) return undefined
    for (const [seq, { attempt, dueAt, letter }] of this.retries) {
      if (dueAt <= now) return { seq, attempt: attempt + 1, letter }
    }
    while (this.told < this.channel.last) {
      const seq = this.told + 1
      if (!this.settled.has(seq) && !this.retries.has(seq) && !this.inFlight.has(seq)) {
        return seq - this.acked > maxInFlight * MOST_AHEAD ? undefined : { seq, attempt: 1, letter: undefined }
      }
      this.told = seq
    }
    return undefined
  }
  tell({ attempt, letter, seq }: Next, deadline: number): void {
    this.retries.delete(seq)
    this.told = Math.max(this.told, seq)
    this.inFlight.set(seq, { attempt, deadline, letter })
  }
  /** It is not kept any more, and was to be told. */
  lose(seq: number): void {
    this.retries.delete(seq)
    this.told = Math.max(this.told, seq)
  }
  /** Nobody answers for what is in flight any more: it is told to who comes next. That is no attempt. */
  release(): void {
    for (const [seq, { attempt, letter }] of this.inFlight) {
      if (attempt > 1 || letter !== undefined) this.retries.set(seq, { attempt: attempt - 1, dueAt: 0, letter })
    }
    this.inFlight.clear()
    this.told = this.acked
  }
  /** Moves `acked` as far as it goes. Whether it moved. */
  advance(): boolean {
    while (this.settled.has(this.told + 1)) this.told += 1
    let to = this.told
    for (const seq of this.inFlight.keys()) if (seq > this.acked && seq <= to) to = seq - 1
    for (const seq of this.retries.keys()) if (seq > this.acked && seq <= to) to = seq - 1
    if (to <= this.acked) return false
    this.acked = to
    for (const seq of this.settled) if (seq <= to) this.settled.delete(seq)
    return true
  }
  /** Rows that say no more than `acked` does. */
  spent(): ReadonlyArray<number> {
    const spent: Array<number> = []
    for (const seq of this.rows) {
      if (seq > this.acked || this.retries.has(seq) || this.inFlight.has(seq)) continue
      spent.push(seq)
      this.rows.delete(seq)
    }
    return spent
  }
  /** When there is something to see to. What is due and could not be told is told as soon as it can be. */
  dueAt(now: number): number {
    let due = Number.POSITIVE_INFINITY
    for (const { deadline } of this.inFlight.values()) {
      due = deadline
      // In the order they were told: the first is the first to be late.
      if (deadline !== Number.POSITIVE_INFINITY) break
    }
    if (this.hearer === undefined) return due
    for (const { dueAt } of this.retries.values()) if (dueAt > now) due = Math.min(due, dueAt)
    return due
  }
}
