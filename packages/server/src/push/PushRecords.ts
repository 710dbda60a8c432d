import { AuditLog, GatewayError, Journal, KeyedLock, Store, type StoreError } from "@postilion/gateway"
import { makeIds } from "@postilion/gateway/domain/Ids"
import type { Tx } from "@postilion/gateway/records/Journal"
import type { PushDeliveryRow, PushMessageRow } from "@postilion/gateway/records/Tables"
import { Effect } from "effect"
import type { Channel } from "./Channel.ts"
import type { Channels } from "./Channels.ts"
import { Message, type Recent } from "./Message.ts"
import { keyOf, Subscription } from "./Subscription.ts"

/** Rows read, or removed, at a time. */
export const PAGE = 100

export const storage = (cause: StoreError) => new GatewayError({ reason: "storage", message: cause.message, cause })

const messageOf = ({ at, channel, data, id, sender, seq }: PushMessageRow): Message =>
  new Message({ channel, seq, id, sender, at, data })

export interface Publication {
  readonly sender: string
  /** Default: one is made. */
  readonly id: string | undefined
  /** JSON. */
  readonly data: string
}

/** What became of a message that was told. */
export interface Failure {
  readonly error: string
  /** Not told again, however few its attempts. */
  readonly final: boolean
}

/** What is recorded of channels and their subscriptions: each a step of the journal. */
export const make = (channels: Channels, recent: Recent, loaded: () => void) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const exclusively = KeyedLock.make()
    const nextId = makeIds()
    /** Ids of the dead letters there are. */
    const dead = new Set<string>()

    yield* journal.register(
      Effect.gen(function* () {
        channels.load(yield* store.find("push_channels", {}))
        const subscriptions = new Map<string, Subscription>()
        for (const row of yield* store.find("push_subscriptions", {})) {
          const channel = channels.stored(row.channel)
          // One that is heard by goes on as what it is.
          const subscription = channel.subscriptions.get(keyOf(row)) ?? new Subscription(channel, row)
          subscription.load(row)
          subscriptions.set(subscription.key, subscription)
        }
        for (const channel of channels.values()) {
          for (const key of channel.subscriptions.keys()) {
            if (!subscriptions.has(key)) channel.subscriptions.delete(key)
          }
        }
        for (const subscription of subscriptions.values()) {
          subscription.channel.subscriptions.set(subscription.key, subscription)
        }
        dead.clear()
        for (const row of yield* store.find("push_deliveries", {})) {
          if (row.state === "dead" && row.id !== null) dead.add(row.id)
          subscriptions.get(keyOf(row))?.loadDelivery(row)
        }
        loaded()
      })
    )

    const writeChannel = (tx: Tx, { first, last, name }: Channel): void =>
      tx.write({ op: "put", table: "push_channels", row: { name, last_seq: last, first_seq: first } })

    /** Keeps a message, and tells it once it is on disk. The same id of the same sender is the same message. */
    const publish = (
      name: string,
      { data, id, sender }: Publication,
      tell: (channel: Channel, message: Message) => void
    ) => {
      const dedupe_key = (own: string) => JSON.stringify([name, sender, own])
      const keep = Effect.gen(function* () {
        const [before] =
          id === undefined
            ? []
            : yield* Effect.mapError(store.find("push_messages", { where: { dedupe_key: dedupe_key(id) } }), storage)
        if (before !== undefined) return { cursor: before.seq, id: before.id, duplicate: true }
        return yield* journal.step(
          (tx) => {
            // Within the step: until then it may have been forgotten.
            const channel = channels.stored(name)
            const own = id ?? nextId("msg", tx.now)
            channel.last += 1
            channel.first = Math.max(channel.first, channel.last - channel.settings.backlog.maxMessages + 1)
            const fields = { channel: name, seq: channel.last, id: own, sender, data, at: tx.now }
            tx.write({ op: "insert", table: "push_messages", row: { ...fields, dedupe_key: dedupe_key(own) } })
            writeChannel(tx, channel)
            const cursor = channel.last
            audit.append(tx, { kind: "push.published", data: { channel: name, cursor, id: own, by: sender } })
            tx.onCommit(() => {
              const message = new Message(fields)
              recent.add(message)
              tell(channel, message)
            })
            return { cursor, id: own, duplicate: false }
          },
          { sheddable: true }
        )
      })
      return id === undefined ? keep : exclusively(dedupe_key(id), keep)
    }

    /** The messages from `seq` on, at most a page, by their number; also one from before what is kept, for a dead letter. */
    const read = (channel: Channel, seq: number, count: number) =>
      Effect.map(
        store.find("push_messages", {
          where: { channel: channel.name, seq: { gte: seq, lt: seq + count } },
          orderBy: ["seq", "asc"]
        }),
        (rows) => {
          const found = new Map<number, Message>()
          for (const row of rows) {
            const message = recent.get(channel.name, row.seq) ?? messageOf(row)
            recent.add(message)
            found.set(row.seq, message)
          }
          return found
        }
      )

    /** The subscription, made if there is none. `undefined`: the channel has as many as may be. */
    const subscribe = (channelName: string, principal: string, name: string, since: number | undefined) =>
      journal.step((tx) => {
        const channel = channels.stored(channelName)
        const key = keyOf({ channel: channel.name, principal, name })
        const known = channel.subscriptions.get(key)
        if (known !== undefined) return { subscription: known, created: false }
        if (channel.subscriptions.size >= channel.settings.maxSubscribers) return undefined
        const acked_seq = Math.min(since ?? channel.last, channel.last)
        const row = { channel: channel.name, principal, name, acked_seq, seen_at: tx.now }
        const subscription = new Subscription(channel, row)
        channel.subscriptions.set(key, subscription)
        writeChannel(tx, channel)
        tx.write({ op: "put", table: "push_subscriptions", row })
        return { subscription, created: true }
      })
    const forget = (subscription: Subscription) =>
      journal.step((tx) => {
        const { channel, key, ref } = subscription
        if (!channel.subscriptions.delete(key)) return
        for (const known of [subscription.inFlight, subscription.retries]) known.clear()
        tx.write({ op: "delete", table: "push_subscriptions", where: ref })
        // Its dead letters stay: they are a person's to look at.
        tx.write({ op: "delete", table: "push_deliveries", where: { ...ref, state: { in: ["acked", "retrying"] } } })
      })
    const seen = (subscription: Subscription) =>
      journal.step((tx) => {
        subscription.seenAt = tx.now
        tx.write({ op: "update", table: "push_subscriptions", key: subscription.ref, set: { seen_at: tx.now } })
      })

    /** Writes how far a subscription has come. */
    const proceed = (tx: Tx, subscription: Subscription): void => {
      if (!subscription.advance()) return
      const { acked, ref } = subscription
      tx.write({ op: "update", table: "push_subscriptions", key: ref, set: { acked_seq: acked } })
    }
    const clear = (tx: Tx, subscription: Subscription): void => {
      const spent = subscription.spent()
      if (spent.length === 0) return
      tx.write({ op: "delete", table: "push_deliveries", where: { ...subscription.ref, seq: { in: spent } } })
    }
    const put = (tx: Tx, subscription: Subscription, seq: number, row: Partial<PushDeliveryRow>): void => {
      const blank = { state: "acked", attempt: 0, due_at: 0, error: null, id: null, died_at: null } as const
      tx.write({ op: "put", table: "push_deliveries", row: { ...subscription.ref, seq, ...blank, ...row } })
      if (row.state !== "dead") subscription.rows.add(seq)
    }
    const ack = (subscription: Subscription, cursors: ReadonlyArray<number>) =>
      journal.step((tx) => {
        const { settled } = subscription
        const own = cursors.filter((seq) => {
          const open = subscription.inFlight.delete(seq)
          const waited = subscription.retries.delete(seq)
          return open || waited || (seq > subscription.acked && !settled.has(seq))
        })
        for (const seq of own) if (seq > subscription.acked) settled.add(seq)
        proceed(tx, subscription)
        for (const seq of own) if (seq > subscription.acked) put(tx, subscription, seq, { state: "acked" })
        clear(tx, subscription)
        return own.length
      })

    const die = (tx: Tx, subscription: Subscription, seq: number, letter: string | undefined, told: Told): void => {
      const { attempt, error } = told
      const id = letter ?? nextId("dead", tx.now)
      subscription.rows.delete(seq)
      if (seq > subscription.acked) subscription.settled.add(seq)
      put(tx, subscription, seq, { state: "dead", attempt, error, id, died_at: tx.now })
      dead.add(id)
      const { channel, name, principal } = subscription.ref
      const about = { channel, principal, subscription: name, cursor: seq }
      audit.append(tx, { kind: "push.dead", data: { id, ...about, attempts: attempt, error } })
      tx.publish({ _tag: "PushMessageDead", at: tx.now, deadLetterId: id, ...about, attempts: attempt, error })
    }
    /** These were told in vain: they are told again after a while, or are dead letters. How many are which. */
    const fail = (subscription: Subscription, cursors: ReadonlyArray<number>, { error, final }: Failure) =>
      journal.step((tx) => {
        const { maxAttempts, retryBaseMs, retryMaxMs } = subscription.channel.settings
        let died = 0
        let retried = 0
        for (const seq of cursors) {
          const flight = subscription.inFlight.get(seq)
          if (flight === undefined) continue
          const { attempt, letter } = flight
          subscription.inFlight.delete(seq)
          if (final || attempt >= maxAttempts) {
            die(tx, subscription, seq, letter, { attempt, error })
            died += 1
          } else {
            const dueAt = tx.now + Math.min(retryBaseMs * 2 ** (attempt - 1), retryMaxMs)
            subscription.retries.set(seq, { attempt, dueAt, letter })
            const state = letter === undefined ? "retrying" : "replayed"
            put(tx, subscription, seq, { state, attempt, due_at: dueAt, error, id: letter ?? null })
            retried += 1
          }
        }
        proceed(tx, subscription)
        clear(tx, subscription)
        return { died, retried }
      })

    return {
      ack,
      dead: () => dead.size,
      isDead: (id: string) => dead.has(id),
      /** Within a step: it is no dead letter any more. */
      buried: (id: string) => void dead.delete(id),
      fail,
      forget,
      publish,
      read,
      seen,
      subscribe,
      writeChannel
    }
  })
export type PushRecords = Effect.Effect.Success<ReturnType<typeof make>>

interface Told {
  readonly attempt: number
  readonly error: string
}
