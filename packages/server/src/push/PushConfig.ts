import {
  between,
  LONGEST_TIMER,
  optional,
  Positive,
  section,
  withDefault
} from "@postilion/gateway/domain/ConfigFields"
import { OneOf } from "@postilion/gateway/domain/OneOf"
import { Schema } from "effect"
import { SCOPES } from "../Scopes.ts"

const LARGEST_BUFFER = 2 ** 28
const MILLION = 1_000_000

const Between = (least: number, most: number, value: number, about: string) =>
  withDefault(between(least, most), value, about)
const Scopes = Schema.Array(OneOf(...SCOPES))

/** A name, or the beginning of names and a `*`. */
const Pattern = Schema.String.pipe(
  Schema.filter(
    (text) => /^(?:[\w.:-]{1,100}|[\w.:-]{0,99}\*)$/.test(text) || `must be a channel such as "alerts", or "jobs.*"`
  )
)

const BacklogConfig = Schema.Struct({
  maxMessages: Between(1, MILLION, 10_000, "Messages beyond the newest so many are removed."),
  ttlMs: Between(1, Number.MAX_SAFE_INTEGER, 86_400_000, "Milliseconds after which a message is removed.")
})

export const PushChannelConfig = Schema.Struct({
  guarantee: withDefault(
    OneOf("at-least-once", "at-most-once"),
    "at-least-once",
    "`at-least-once`: a message is on disk before its publisher is answered, is kept for who is not there, and told to each subscription until it is acknowledged. `at-most-once`: it is told to who is there, and not kept."
  ),
  publish: withDefault(
    Scopes,
    ["operator", "agent"],
    "Who may publish, by scope; an operator always may, a viewer never."
  ),
  subscribe: withDefault(Scopes, SCOPES, "Who may hear, by scope; an operator always may."),
  principals: optional(
    Schema.Array(Schema.NonEmptyString),
    "The principals it is for: nobody else publishes or hears, but operators. Default: all."
  ),
  ackTimeoutMs: Between(1, LONGEST_TIMER, 30_000, "Milliseconds a subscriber has to acknowledge a message."),
  maxAttempts: Between(1, MILLION, 5, "Times a subscriber is told a message before it is a dead letter."),
  retryBaseMs: Between(
    0,
    LONGEST_TIMER,
    1_000,
    "Milliseconds before a message is told the second time; twice as many before each further time."
  ),
  retryMaxMs: Between(0, LONGEST_TIMER, 60_000, "The most milliseconds between two times."),
  maxInFlight: Between(1, 10_000, 100, "Messages a subscription may have to acknowledge at a time; the others wait."),
  backlog: section(
    BacklogConfig,
    "What is kept of an `at-least-once` channel, for who is not there and who asks later. What is not any more is told as a PUSH_GAP."
  ),
  maxSubscribers: Between(1, MILLION, 1_000, "Connections that hear it at a time, and as many durable subscriptions.")
})
export type PushChannelConfig = typeof PushChannelConfig.Type

/** The push service. Every key has a default. */
export const PushConfig = Schema.Struct({
  channels: withDefault(
    Schema.Record({ key: Pattern, value: PushChannelConfig }),
    {},
    "By name, or by how names begin (`jobs.*`): the longest that fits counts. `*` is for all others."
  ),
  maxChannels: Between(
    1,
    MILLION,
    1_000,
    "Channels there may be. One that keeps nothing and nobody hears makes room for others."
  ),
  maxMessageBytes: Between(1, LARGEST_BUFFER, 65_536, "Bytes of JSON a message may have."),
  maxMetadataBytes: Between(2, MILLION, 1_024, "Bytes of JSON a subscriber may say of itself."),
  maxSubscriptions: Between(1, MILLION, 100, "Channels a connection may hear at a time."),
  maxPolls: Between(1, MILLION, 500, "Requests that may wait for a message at a time; more are answered 503."),
  maxPollMs: Between(1, LONGEST_TIMER, 60_000, "The most milliseconds a request may wait for a message."),
  subscriptionDays: withDefault(
    Positive,
    30,
    "Days a durable subscription that nobody hears by is kept, and for which it is known who was last present."
  ),
  maxDeadLetters: Between(1, MILLION, 10_000, "Dead letters beyond the newest so many are removed."),
  deadLetterDays: withDefault(Positive, 30, "Days a dead letter is kept.")
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
