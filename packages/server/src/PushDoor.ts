import { Data } from "@postilion/client/PushProtocol"
import type { GatewayError } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Schema } from "effect"
import { answerOf, type Denied } from "./Denied.ts"
import { json, orProblem } from "./HttpAnswers.ts"
import * as JsonBody from "./JsonBody.ts"
import type { Principal } from "./Principal.ts"
import { Push } from "./push/Push.ts"
import { CHANNEL_NAME } from "./push/PushConfig.ts"

interface Body {
  readonly contentType: string | undefined
  readonly body: Uint8Array
}
type Answer = Effect.Effect<Problem.HttpAnswer>

export interface PushDoor {
  /** 200 `{ cursor, duplicate }`, once it is on disk where the channel keeps it. The body is `{ "data": …, "id"?: string }`. */
  readonly publish: (principal: Principal, channel: string, body: Body) => Answer
  /**
   * 200 `{ messages, cursor, missed }`: what came after `since`, at once if there is something, else as soon as there is, or
   * after `timeout` milliseconds. With `subscription` each has to be acknowledged, or comes again. 503 too many wait.
   */
  readonly poll: (principal: Principal, channel: string, query: string) => Answer
  /** 200 `{}`, once it is on disk. 404 the principal has no such subscription. */
  readonly ack: (principal: Principal, channel: string, body: Body) => Answer
  readonly nack: PushDoor["ack"]
  /** 200 `{ present, left }`. */
  readonly presence: (principal: Principal, channel: string) => Answer
  /** 200 `{}`; also where there was none. */
  readonly forget: (principal: Principal, channel: string, subscription: string) => Answer
  /** 200 `{ deadLetters }`, in the order they died. */
  readonly deadLetters: (query: string) => Answer
  /** 200 `{ id }`. 404 there is none, 409 it is being told again, or its subscription is gone. */
  readonly replay: (id: string, by: string) => Answer
  readonly drop: PushDoor["replay"]
}

const LONGEST_NAME = 256
const Name = Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_NAME))
const Cursors = Schema.NonEmptyArray(Schema.NonNegativeInt).pipe(Schema.maxItems(1_000))
const Count = Schema.NumberFromString.pipe(Schema.nonNegative(), Schema.int())
const Limit = Schema.NumberFromString.pipe(Schema.between(1, 1_000), Schema.int())

const readMessage = JsonBody.make(
  'a message is { "data": anything, "id"?: string }',
  Schema.Struct({ data: Data, id: Schema.optional(Name) })
)
const readAck = JsonBody.make(
  'an acknowledgement is { "subscription": string, "cursors": [number] }',
  Schema.Struct({ subscription: Name, cursors: Cursors })
)
const readNack = JsonBody.make(
  'a refusal is { "subscription": string, "cursors": [number], "requeue"?: boolean, "reason"?: string }',
  Schema.Struct({
    subscription: Name,
    cursors: Cursors,
    requeue: Schema.optional(Schema.Boolean),
    reason: Schema.optional(Name)
  })
)
const reader = <A, I>(what: string, schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknown(schema, { onExcessProperty: "error" })
  return (query: string): Effect.Effect<A, Problem.HttpAnswer> =>
    Effect.mapError(decode(Object.fromEntries(new URLSearchParams(query))), () =>
      Problem.problem(422, `${what}; got "${query}"`)
    )
}
const readPoll = reader(
  "a channel can be asked for by since (a cursor), timeout (milliseconds), limit (1 to 1000) and subscription",
  Schema.Struct({
    since: Schema.optional(Count),
    timeout: Schema.optional(Count),
    limit: Schema.optional(Limit),
    subscription: Schema.optional(Name)
  })
)
const readLetters = reader(
  "dead letters can be asked for by channel, after (an id) and limit (1 to 1000)",
  Schema.Struct({
    channel: Schema.optional(Name),
    after: Schema.optional(Name),
    limit: Schema.optional(Limit)
  })
)

const named = (path: string): Effect.Effect<string, Problem.HttpAnswer> => {
  let name = ""
  try {
    name = decodeURIComponent(path)
  } catch {
    // No name either.
  }
  return CHANNEL_NAME.test(name)
    ? Effect.succeed(name)
    : Effect.fail(Problem.problem(404, "a channel's name has letters, digits and ._:-, up to 100 of them"))
}
const answered = (effect: Effect.Effect<Problem.HttpAnswer, GatewayError | Denied | Problem.HttpAnswer>): Answer =>
  orProblem(
    Effect.catchIf(
      effect,
      (error): error is Denied => "_tag" in error && error._tag === "Denied",
      (denied) => Effect.succeed(answerOf(denied))
    )
  )
const done = () => json(200, {})

/** The push service over HTTP, for who cannot hold a socket. */
export const make: Effect.Effect<PushDoor, never, Push> = Effect.map(Push, (push) => ({
  publish: (principal, path, { body, contentType }) =>
    Effect.gen(function* () {
      const channel = yield* named(path)
      const message = yield* readMessage(contentType, body)
      return json(200, yield* push.publish(principal, { channel, ...message }))
    }).pipe(answered),
  poll: (principal, path, query) =>
    Effect.gen(function* () {
      const channel = yield* named(path)
      const { timeout: timeoutMs, ...options } = yield* readPoll(query)
      const { attempts, cursor, messages, missed } = yield* push.poll(principal, { channel, timeoutMs, ...options })
      const shown = messages.map((message) => {
        const attempt = attempts.get(message.seq)
        return attempt === undefined ? message.shown() : { ...message.shown(), attempt }
      })
      return json(200, { messages: shown, cursor, missed })
    }).pipe(answered),
  ack: (principal, path, { body, contentType }) =>
    Effect.gen(function* () {
      const channel = yield* named(path)
      return yield* Effect.map(push.ack(principal, { channel, ...(yield* readAck(contentType, body)) }), done)
    }).pipe(answered),
  nack: (principal, path, { body, contentType }) =>
    Effect.gen(function* () {
      const channel = yield* named(path)
      return yield* Effect.map(push.nack(principal, { channel, ...(yield* readNack(contentType, body)) }), done)
    }).pipe(answered),
  presence: (principal, path) =>
    answered(
      Effect.flatMap(named(path), (channel) =>
        Effect.map(push.presence(principal, channel), (present) => json(200, present))
      )
    ),
  forget: (principal, path, subscription) =>
    answered(
      Effect.flatMap(named(path), (channel) =>
        Effect.map(push.forget(principal, channel, decodeURIComponent(subscription)), done)
      )
    ),
  deadLetters: (query) =>
    answered(
      Effect.flatMap(readLetters(query), (filter) =>
        Effect.map(push.deadLetters.list(filter), (deadLetters) => json(200, { deadLetters }))
      )
    ),
  replay: (id, by) => answered(Effect.map(push.deadLetters.replay(id, by), (letter) => json(200, letter))),
  drop: (id, by) => answered(Effect.map(push.deadLetters.drop(id, by), (letter) => json(200, letter)))
}))
