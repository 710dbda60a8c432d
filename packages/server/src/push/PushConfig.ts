import { Positive } from "@postilion/gateway/domain/ConfigFields"
import { OneOf } from "@postilion/gateway/domain/OneOf"
import { Schema } from "effect"
import { SCOPES } from "../Scopes.ts"

const LONGEST_TIMER = 2 ** 31 - 1
const LARGEST_BUFFER = 2 ** 28
const MILLION = 1_000_000

const withDefault = <A, I>(schema: Schema.Schema<A, I>, value: NoInfer<A>) =>
  Schema.optionalWith(schema, { default: () => value })
const Between = (least: number, most: number, value: number) =>
  withDefault(
    Schema.Number.pipe(
      Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
      Schema.between(least, most, { message: ({ actual }) => `must be from ${least} to ${most}, got ${actual}` })
    ),
    value
  )
/** Keys that all have a default. */
const section = <A, I>(schema: Schema.Schema<A, I>) =>
  Schema.optionalWith(schema, { default: () => Schema.decodeUnknownSync(schema)({}) })
const Scopes = Schema.Array(OneOf(...SCOPES))

/** What a channel may be called: letters, digits and `._:-`, up to 100 of them. */
export const CHANNEL_NAME = /^[\w.:-]{1,100}$/
/** A name, or the beginning of names and a `*`. */
const Pattern = Schema.String.pipe(
  Schema.filter(
    (text) => /^(?:[\w.:-]{1,100}|[\w.:-]{0,99}\*)$/.test(text) || `must be a channel such as "alerts", or "jobs.*"`
  )
)

const BacklogConfig = Schema.Struct({
  /** Messages beyond the newest so many are removed. Default: 10,000. */
  maxMessages: Between(1, MILLION, 10_000),
  /** Milliseconds after which a message is removed. Default: 86,400,000 (a day). */
  ttlMs: Between(1, Number.MAX_SAFE_INTEGER, 86_400_000)
})

export const PushChannelConfig = Schema.Struct({
  /**
   * - `at-least-once`: a message is on disk before its publisher is answered, is kept for who is not there, and told to each
   *   subscription until it is acknowledged.
   * - `at-most-once`: it is told to who is there, and not kept.
   *
   * Default: `at-least-once`.
   */
  guarantee: withDefault(OneOf("at-least-once", "at-most-once"), "at-least-once"),
  /** Who may publish, by scope; an operator always may, a viewer never. Default: `operator`, `agent`. */
  publish: withDefault(Scopes, ["operator", "agent"]),
  /** Who may hear, by scope; an operator always may. Default: everyone. */
  subscribe: withDefault(Scopes, SCOPES),
  /** The principals it is for: nobody else publishes or hears, but operators. Default: all. */
  principals: Schema.optional(Schema.Array(Schema.NonEmptyString)),
  /** Milliseconds a subscriber has to acknowledge a message. Default: 30,000. */
  ackTimeoutMs: Between(1, LONGEST_TIMER, 30_000),
  /** Times a subscriber is told a message before it is a dead letter. Default: 5. */
  maxAttempts: Between(1, MILLION, 5),
  /** Milliseconds before a message is told the second time; twice as many before each further time. Default: 1,000. */
  retryBaseMs: Between(0, LONGEST_TIMER, 1_000),
  /** The most milliseconds between two times. Default: 60,000. */
  retryMaxMs: Between(0, LONGEST_TIMER, 60_000),
  /** Messages a subscription may have to acknowledge at a time; the others wait. Default: 100. */
  maxInFlight: Between(1, 10_000, 100),
  /** What is kept of an `at-least-once` channel, for who is not there and who asks later. What is not any more is told as a PUSH_GAP. */
  backlog: section(BacklogConfig),
  /** Connections that hear it at a time, and as many durable subscriptions. Default: 1,000. */
  maxSubscribers: Between(1, MILLION, 1_000)
})
export type PushChannelConfig = typeof PushChannelConfig.Type

/** The push service. Every key has a default. */
export const PushConfig = Schema.Struct({
  /** By name, or by how names begin (`jobs.*`): the longest that fits counts. `*` is for all others. Default: the defaults. */
  channels: withDefault(Schema.Record({ key: Pattern, value: PushChannelConfig }), {}),
  /** Channels there may be. One that keeps nothing and nobody hears makes room for others. Default: 1,000. */
  maxChannels: Between(1, MILLION, 1_000),
  /** Bytes of JSON a message may have. Default: 65,536. */
  maxMessageBytes: Between(1, LARGEST_BUFFER, 65_536),
  /** Bytes of JSON a subscriber may say of itself. Default: 1,024. */
  maxMetadataBytes: Between(2, MILLION, 1_024),
  /** Channels a connection may hear at a time. Default: 100. */
  maxSubscriptions: Between(1, MILLION, 100),
  /** Requests that may wait for a message at a time; more are answered 503. Default: 500. */
  maxPolls: Between(1, MILLION, 500),
  /** The most milliseconds a request may wait for a message. Default: 60,000. */
  maxPollMs: Between(1, LONGEST_TIMER, 60_000),
  /** Days a durable subscription that nobody hears by is kept. Default: 30. */
  subscriptionDays: withDefault(Positive, 30),
  /** Dead letters beyond the newest so many are removed. Default: 10,000. */
  maxDeadLetters: Between(1, MILLION, 10_000),
  /** Days a dead letter is kept. Default: 30. */
  deadLetterDays: withDefault(Positive, 30)
})
export type PushConfig = typeof PushConfig.Type

/** What holds for a channel: its own entry, or the longest beginning that fits, or the defaults. */
export const settingsOf = ({ channels }: PushConfig): ((name: string) => PushChannelConfig) => {
  const defaults = channels["*"] ?? Schema.decodeSync(PushChannelConfig)({})
  const beginnings = Object.entries(channels)
    .filter(([pattern]) => pattern.endsWith("*"))
    .map(([pattern, settings]) => [pattern.slice(0, -1), settings] as const)
    .sort(([a], [b]) => b.length - a.length)
  return (name) =>
    (Object.hasOwn(channels, name) ? channels[name] : undefined) ??
    beginnings.find(([beginning]) => name.startsWith(beginning))?.[1] ??
    defaults
}
