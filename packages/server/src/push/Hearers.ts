import { Effect } from "effect"
import type { Channel, Hearer, Receiver } from "./Channel.ts"
import type { Message } from "./Message.ts"
import type { Next, Subscription } from "./Subscription.ts"

/** What hearers have of what is around them. */
export interface Surroundings {
  readonly now: () => number
  /** What has just been published, or read. */
  readonly recent: (channel: Channel, seq: number) => Message | undefined
  /** Messages from `seq` on, by number, those that there are. Tried until it succeeds. */
  readonly read: (channel: Channel, seq: number) => Effect.Effect<ReadonlyMap<number, Message>>
  readonly run: (effect: Effect.Effect<void>) => void
  /** Has the subscription seen to when it is due. */
  readonly schedule: (subscription: Subscription) => void
}

/** Hears what is published while it is there. */
export class Live implements Hearer {
  private readonly receiver: Receiver

  constructor(receiver: Receiver) {
    this.receiver = receiver
  }
  published(message: Message): void {
    this.receiver.message(message, 1)
  }
  wake(): void {}
}

/** Tells one message after the other, from memory or from the records, for as long as its receiver takes them. */
abstract class Reader implements Hearer {
  private pumping = false
  protected readonly channel: Channel
  protected readonly around: Surroundings

  constructor(channel: Channel, around: Surroundings) {
    this.channel = channel
    this.around = around
  }
  /** The number of what is to be told next, if it can be told now. */
  protected abstract next(): number | undefined
  protected abstract tell(message: Message): void
  /** There is no such message any more. */
  protected abstract lose(seq: number): void

  published(message: Message): void {
    // Most are told all there was before: nothing is looked up for them, and nothing comes after it yet.
    if (!this.pumping && this.next() === message.seq) this.tell(message)
    else this.wake()
  }
  wake(): void {
    if (!this.pumping && this.tellRecent() !== undefined) this.around.run(this.catchUp)
  }
  /** Tells all that can be told now. */
  readonly catchUp: Effect.Effect<void> = Effect.suspend(() => {
    if (this.pumping) return Effect.void
    this.pumping = true
    const over = Effect.sync(() => {
      this.pumping = false
    })
    return Effect.ensuring(this.pump, over)
  })
  /** Tells what needs no reading. The number of what does. */
  private tellRecent(): number | undefined {
    for (let seq = this.next(); seq !== undefined; seq = this.next()) {
      const message = this.around.recent(this.channel, seq)
      if (message === undefined) return seq
      this.tell(message)
    }
    return undefined
  }
  private readonly pump: Effect.Effect<void> = Effect.suspend(() => {
    const seq = this.tellRecent()
    if (seq === undefined) return Effect.void
    return Effect.flatMap(this.around.read(this.channel, seq), (found) => {
      for (let next = this.next(); next !== undefined; next = this.next()) {
        const message = found.get(next) ?? this.around.recent(this.channel, next)
        if (message !== undefined) this.tell(message)
        else if (next === seq) this.lose(next)
        else break
      }
      return this.pump
    })
  })
}

/** Hears everything after a cursor, and then what is published. */
export class Tail extends Reader {
  private position: number
  private readonly receiver: Receiver

  constructor(channel: Channel, around: Surroundings, receiver: Receiver, since: number | undefined) {
    super(channel, around)
    this.receiver = receiver
    this.position = Math.min(since ?? channel.last, channel.last)
    // A cursor of another channel, or another gateway's.
    if (since !== undefined && since > channel.last) receiver.gap({ missed: null, cursor: channel.last })
  }
  protected next(): number | undefined {
    if (!this.receiver.ready) return undefined
    const { first, last } = this.channel
    if (this.position < first - 1) {
      this.receiver.gap({ missed: first - 1 - this.position, cursor: first - 1 })
      this.position = first - 1
    }
    return this.position < last ? this.position + 1 : undefined
  }
  protected tell(message: Message): void {
    this.position = message.seq
    this.receiver.message(message, 1)
  }
  protected lose(seq: number): void {
    this.position = seq
    this.receiver.gap({ missed: 1, cursor: seq })
  }
}

/** Hears by a durable subscription: what is told has to be acknowledged. */
export class Durable extends Reader {
  readonly subscription: Subscription
  readonly receiver: Receiver
  private readonly ackTimeoutMs: number
  private pending: Next | undefined

  constructor(subscription: Subscription, around: Surroundings, receiver: Receiver) {
    super(subscription.channel, around)
    this.subscription = subscription
    this.receiver = receiver
    this.ackTimeoutMs = subscription.channel.settings.ackTimeoutMs
  }
  private get hears(): boolean {
    return this.subscription.hearer === this
  }
  protected next(): number | undefined {
    const { inFlight } = this.subscription
    // With nothing in flight nothing would wake it again.
    if (!this.hears || this.receiver.away || (inFlight.size > 0 && !this.receiver.ready)) return undefined
    const missed = this.subscription.skipMissing()
    if (missed > 0) this.receiver.gap({ missed, cursor: this.subscription.told })
    this.pending = this.subscription.next(this.around.now())
    return this.pending?.seq
  }
  protected tell(message: Message): void {
    if (this.pending === undefined) return
    this.subscription.tell(this.pending, this.around.now() + this.ackTimeoutMs)
    this.around.schedule(this.subscription)
    this.receiver.message(message, this.pending.attempt)
  }
  protected lose(seq: number): void {
    this.subscription.lose(seq)
    this.receiver.gap({ missed: 1, cursor: seq })
  }
  /** Its connection has a socket again: what it was told before, it may have, or is told again with it. */
  back(): void {
    const deadline = this.around.now() + this.ackTimeoutMs
    for (const flight of this.subscription.inFlight.values()) flight.deadline = deadline
    this.around.schedule(this.subscription)
    this.wake()
  }
}
