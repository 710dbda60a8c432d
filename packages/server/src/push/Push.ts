import { type AuditLog, GatewayError, type Journal, type Store, type StoreError } from "@postilion/gateway"
import { Clock, Context, Deferred, Effect, FiberSet, Layer, Schedule } from "effect"
import { Denied } from "../Denied.ts"
import type { Principal } from "../Principal.ts"
import { allow } from "../Scopes.ts"
import type { Channel } from "./Channel.ts"
import { Channels } from "./Channels.ts"
import * as DeadLetters from "./DeadLetters.ts"
import type { Surroundings } from "./Hearers.ts"
import { Message, Recent } from "./Message.ts"
import * as Polls from "./Polls.ts"
import * as PresenceRecords from "./PresenceRecords.ts"
import * as PushAlarm from "./PushAlarm.ts"
import type { PushConfig } from "./PushConfig.ts"
import * as PushRecords from "./PushRecords.ts"
import * as PushRetention from "./PushRetention.ts"
import * as SocketHearers from "./SocketHearers.ts"
import { keyOf } from "./Subscription.ts"

/** What has come of the push service since start. */
export interface PushCounts {
  published: number
  told: number
  acked: number
  retried: number
  died: number
}

export interface Publication {
  readonly channel: string
  /** The publisher's own: published twice, it is the same message. Default: one is made. */
  readonly id?: string | undefined
  /** JSON. */
  readonly data: unknown
}
export interface Cursors {
  readonly channel: string
  readonly subscription: string
  readonly cursors: ReadonlyArray<number>
}
export interface Nack extends Cursors {
  readonly requeue?: boolean | undefined
  readonly reason?: string | undefined
}
export interface HistoryOptions {
  readonly channel: string
  readonly since?: number | undefined
  readonly limit?: number | undefined
}

/** Messages after a cursor. */
export interface Page {
  readonly messages: ReadonlyArray<Message>
  readonly cursor: number
  /** How many before these are not kept any more; null: nobody knows. */
  readonly missed: number | null
}

/** What the parts of the service have in common. */
export interface Core {
  readonly config: PushConfig
  readonly channels: Channels
  readonly records: PushRecords.PushRecords
  readonly presences: PresenceRecords.PresenceRecords
  readonly around: Surroundings
  readonly counts: PushCounts
  /** Whether the principal may hear, or publish in, the channel. */
  readonly admit: (
    principal: Principal,
    channel: string,
    verb: "publish" | "subscribe"
  ) => Effect.Effect<Channel["settings"], Denied>
  /** The channel, if there is room for it and for one more that hears it. */
  readonly enter: (name: string) => Effect.Effect<Channel, GatewayError>
  readonly page: (name: string, since: number | undefined, limit: number) => Effect.Effect<Page, GatewayError>
}

/** Messages read where it is not said how many. */
const LIMIT = 100
/** Ids of messages that a channel that keeps none remembers. */
const MOST_IDS = 1_000
/** Milliseconds before records that could not be read are read again. */
const RETRY = 1_000

/** Why a channel that keeps nothing has no subscriptions by name. */
export const keepsNothing = (channel: string) =>
  new GatewayError({
    reason: "invalid-input",
    message: `"${channel}" keeps nothing (guarantee: at-most-once), so nothing of it can be acknowledged; leave out \`subscription\``
  })

const make = (config: PushConfig) =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const run = yield* FiberSet.makeRuntime<never>()
    const closing = yield* Deferred.make<void>()
    const channels = new Channels(config)
    const recent = new Recent()
    const counts: PushCounts = { published: 0, told: 0, acked: 0, retried: 0, died: 0 }
    /** By id, those of channels that keep none. */
    const ids = new WeakMap<Channel, Set<string>>()

    const wakeAll = Effect.sync(() => {
      for (const channel of channels.values()) for (const hearer of channel.hearers) hearer.wake()
    })
    // What was told and could not be recorded is told again.
    const records = yield* PushRecords.make(channels, recent, () => void run(wakeAll))
    const presences = yield* PresenceRecords.make({ channels, now, run: (effect) => void run(effect) })
    const retention = yield* PushRetention.make(config, channels, { records, presences })

    const due = yield* PushAlarm.make({ channels, records, retention, counts, now, run: (effect) => void run(effect) })
    const { fail, schedule } = due

    const around: Surroundings = {
      now,
      recent: (channel, seq) => recent.get(channel.name, seq),
      read: (channel, seq) =>
        records.read(channel, seq, PushRecords.PAGE).pipe(
          Effect.tapError((error) => Effect.logWarning("messages could not be read; trying again", error)),
          Effect.retry(Schedule.spaced(RETRY)),
          Effect.orDie
        ),
      run: (effect) => void run(effect),
      schedule
    }
    const told = (channel: Channel, message: Message): void => {
      counts.published += 1
      for (const hearer of channel.hearers) hearer.published(message)
      const { backlog } = channel.settings
      if (message.seq === channel.first) due.prune(channel, message.fields.at + backlog.ttlMs)
      if (channel.first - channel.swept > backlog.maxMessages / 10 + PushRecords.PAGE) due.prune(channel, now())
    }
    /** Tells it to who is there, unless it was told before. */
    const tell = (channel: Channel, { data, id, sender }: PushRecords.Publication): boolean => {
      if (id !== undefined) {
        const known = ids.get(channel) ?? new Set()
        const key = JSON.stringify([sender, id])
        if (known.has(key)) return true
        known.add(key)
        for (const oldest of known) if (known.size > MOST_IDS) known.delete(oldest)
        ids.set(channel, known)
      }
      counts.published += 1
      const fields = { channel: channel.name, seq: 0, id: id ?? crypto.randomUUID(), sender, data, at: now() }
      const message = new Message(fields)
      for (const hearer of channel.hearers) hearer.published(message)
      return false
    }

    const admit: Core["admit"] = (principal, name, verb) => {
      const settings = channels.settings(name)
      if (principal.scopes.includes("operator")) return Effect.succeed(settings)
      const mine = settings.principals === undefined || settings.principals.includes(principal.name)
      const action = verb === "publish" ? "push.publish" : "push.subscribe"
      const scopes = principal.scopes.filter((scope) => allow([scope], action) && settings[verb].includes(scope))
      if (mine && scopes.length > 0) return Effect.succeed(settings)
      const what = verb === "publish" ? "publish in" : "hear"
      return new Denied({ reason: "not-allowed", message: `${principal.name} may not ${what} the channel "${name}"` })
    }
    const overloaded = (message: string) => new GatewayError({ reason: "overloaded", message })
    const roomFor = (name: string): Effect.Effect<Channel, GatewayError> => {
      const channel = channels.open(name)
      return channel === undefined
        ? overloaded(`there are ${config.maxChannels} channels, as many as may be (push.maxChannels)`)
        : Effect.succeed(channel)
    }
    const enter: Core["enter"] = (name) =>
      Effect.filterOrFail(
        roomFor(name),
        ({ hearers, settings }) => hearers.size < settings.maxSubscribers,
        ({ settings }) =>
          overloaded(`"${name}" is heard by ${settings.maxSubscribers}, as many as may be (maxSubscribers)`)
      )
    const page: Core["page"] = (name, since, limit) =>
      Effect.gen(function* () {
        const channel = channels.find(name)
        const last = channel?.last ?? channels.floor
        const first = channel?.first ?? last + 1
        if (channel?.keeps !== true || last < (since ?? 0)) {
          const known = since === undefined || since === (channel?.keeps === false ? 0 : last)
          return { messages: [], cursor: channel?.keeps === false ? 0 : last, missed: known ? 0 : null }
        }
        const after = Math.max(since ?? last - limit, first - 1)
        const found = yield* Effect.mapError(records.read(channel, after + 1, limit), PushRecords.storage)
        const messages = [...found.values()]
        return {
          messages,
          cursor: messages.at(-1)?.seq ?? Math.max(after, since ?? 0),
          missed: since === undefined ? 0 : Math.max(0, first - 1 - since)
        }
      })
    const core: Core = { config, channels, records, presences, around, counts, admit, enter, page }
    const sockets = SocketHearers.make(core)
    const polls = Polls.make(core, Deferred.await(closing))

    const own = (principal: Principal, { channel, subscription: name }: Omit<Cursors, "cursors">) =>
      Effect.gen(function* () {
        yield* admit(principal, channel, "subscribe")
        const key = keyOf({ channel, principal: principal.name, name })
        const found = channels.find(channel)?.subscriptions.get(key)
        if (found !== undefined) return found
        const message = `${principal.name} has no subscription "${name}" to "${channel}"`
        return yield* new GatewayError({ reason: "not-found", message })
      })
    const published = (sender: string, { channel, data, id }: Publication) =>
      Effect.gen(function* () {
        const text = JSON.stringify(data)
        const bytes = Buffer.byteLength(text)
        if (bytes > config.maxMessageBytes) {
          const message = `a message may have ${config.maxMessageBytes} bytes of JSON (push.maxMessageBytes), this one has ${bytes}`
          return yield* new GatewayError({ reason: "invalid-input", message })
        }
        return { sender, id, data: text, channel }
      })

    return {
      publish: (principal: Principal, publication: Publication) =>
        Effect.gen(function* () {
          const { guarantee } = yield* admit(principal, publication.channel, "publish")
          const { channel: name, ...message } = yield* published(principal.name, publication)
          if (guarantee === "at-least-once") {
            yield* roomFor(name)
            const { cursor, duplicate } = yield* records.publish(name, message, told)
            return { cursor, duplicate }
          }
          const channel = channels.find(name)
          return { cursor: 0, duplicate: channel !== undefined && tell(channel, message) }
        }),
      history: (principal: Principal, { channel, limit = LIMIT, since }: HistoryOptions) =>
        Effect.zipRight(admit(principal, channel, "subscribe"), page(channel, since, limit)),
      ack: (principal: Principal, { cursors, ...ref }: Cursors) =>
        Effect.gen(function* () {
          const subscription = yield* own(principal, ref)
          counts.acked += yield* records.ack(
            subscription,
            cursors.filter((cursor) => cursor <= subscription.channel.last)
          )
          subscription.hearer?.wake()
        }),
      nack: (principal: Principal, { cursors, reason, requeue = true, ...ref }: Nack) =>
        Effect.gen(function* () {
          const subscription = yield* own(principal, ref)
          yield* fail(subscription, cursors, { error: reason ?? "refused by its subscriber", final: !requeue })
          schedule(subscription)
          subscription.hearer?.wake()
        }),
      presence: (principal: Principal, channel: string) =>
        Effect.zipRight(
          admit(principal, channel, "subscribe"),
          Effect.map(
            Clock.currentTimeMillis,
            (at) => channels.find(channel)?.presence.query(at) ?? { present: [], left: [] }
          )
        ),
      /** Forgets a subscription; one that is not there is forgotten. */
      forget: (principal: Principal, channel: string, subscription: string) =>
        Effect.gen(function* () {
          yield* admit(principal, channel, "subscribe")
          const key = keyOf({ channel, principal: principal.name, name: subscription })
          const found = channels.find(channel)?.subscriptions.get(key)
          if (found === undefined) return
          found.hearer?.receiver.replaced()
          yield* records.forget(found)
        }),
      sockets,
      poll: polls.poll,
      deadLetters: yield* DeadLetters.make(channels, records),
      /** Nobody is kept waiting from here on. */
      close: Effect.asVoid(Deferred.succeed(closing, undefined)),
      counts: () => ({
        ...counts,
        channels: channels.size,
        deadLetters: records.dead(),
        polls: polls.waiting(),
        hearers: [...channels.values()].reduce((sum, { hearers }) => sum + hearers.size, 0),
        subscriptions: [...channels.values()].reduce((sum, { subscriptions }) => sum + subscriptions.size, 0)
      })
    }
  })

export type PushShape = Effect.Effect.Success<ReturnType<typeof make>>

/**
 * Channels that are published in and heard, over sockets and over HTTP. Each is `at-most-once` or `at-least-once`, as the
 * configuration says; of the latter messages are in the records, and so is how far each durable subscription has come.
 */
export class Push extends Context.Tag("@postilion/server/Push")<Push, PushShape>() {}

export const layer = (config: PushConfig): Layer.Layer<Push, StoreError, Store | Journal | AuditLog> =>
  Layer.scoped(Push, make(config))
