import { type EventRecord, GatewayError, type GatewayEvent, GatewayService, Reconfiguration } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Deferred, Effect, Schema, Stream } from "effect"
import { json, orProblem } from "./HttpAnswers.ts"
import * as JsonBody from "./JsonBody.ts"

export interface ChatDoorOptions {
  /** Where a message may have its answer sent, besides being answered here. */
  readonly channels: ReadonlySet<string>
}

export interface ChatDoor {
  /**
   * Hands what a principal says to the gateway and waits for the answer.
   *
   * - 200 `{ eventId, decision, policy, reason, reply }`; `reply` is `null` when a policy kept it from the agent.
   * - 202, the same, with the event's place in `location`: nobody answers now, since it waits for its time or a person, or since
   *   the gateway stops first.
   * - 403 the sender has no access, 500 the agent failed, 415 not JSON, 400 not JSON after all, 422 not a message, 503 not now.
   */
  readonly say: (
    principal: string,
    contentType: string | undefined,
    body: Uint8Array
  ) => Effect.Effect<Problem.HttpAnswer>
  /** Nobody is kept waiting from here on. */
  readonly close: Effect.Effect<void>
}

const LONGEST_CHAT_ID = 256

/** Nothing but what is said, and the channel the answer is also sent by. Who says it is who holds the token, so a body that names a sender is refused. */
const Message = Schema.Struct({
  text: Schema.NonEmptyString,
  chatId: Schema.optionalWith(Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_CHAT_ID)), {
    default: () => "default"
  }),
  replyTo: Schema.optional(Schema.NonEmptyString)
})
const read = JsonBody.make('a message is { "text": string, "chatId"?: string, "replyTo"?: string }', Message)

/** JSON, because neither names nor chat ids are ours to forbid a `:`: two different pairs never share a session. */
const sessionKeyOf = (principal: string, chatId: string): string => `http:${JSON.stringify([principal, chatId])}`

/** Whether an event is what this principal said here. Others may have a sender of that name, which no token has proved. */
export const wasSaidBy = (principal: string, { metadata, sender, source }: GatewayEvent): boolean =>
  source === "channel" && metadata.channel === "http" && sender === principal

const summary = ({ decision, event, policy, reason, run }: EventRecord) => ({
  eventId: event.id,
  decision: decision ?? null,
  policy: policy ?? null,
  reason: reason ?? null,
  reply: run?.text ?? null
})

const held = (record: EventRecord): Problem.HttpAnswer =>
  json(202, summary(record), { location: `/events/${record.event.id}` })

/** `replyToUnknown`: what a sender without access is answered. */
const answerOf = (record: EventRecord, replyToUnknown: string | undefined): Problem.HttpAnswer => {
  const { event, policy, reason, run } = record
  if (run !== undefined && run.state !== "completed") {
    return Problem.problem(500, `the agent did not answer: ${run.error ?? `the run was ${run.state}`}`, {
      members: { eventId: event.id }
    })
  }
  if (policy === "AccessControl" && run === undefined) {
    return Problem.problem(403, reason ?? "the sender has no access", {
      members: { eventId: event.id, ...(replyToUnknown === undefined ? {} : { reply: replyToUnknown }) }
    })
  }
  return json(200, summary(record))
}

/** The chat door: a message is an event of the source `channel`, and its answer that of the run. */
export const make = (options: ChatDoorOptions): Effect.Effect<ChatDoor, never, GatewayService | Reconfiguration> =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const { current } = yield* Reconfiguration
    const closing = yield* Deferred.make<void>()

    /** Waits for the first decision on an event. */
    const decided = (eventId: string) =>
      Effect.gen(function* () {
        // Listening begins before the first look, so that nothing that happens in between is missed.
        const told = yield* gateway.events("PolicyDecisionMade")
        const looks = Stream.filter(told, (event) => event._tag === "Lagged" || event.eventId === eventId)
        yield* Stream.concat(Stream.make("now"), looks).pipe(
          Stream.mapEffect(() => gateway.find(eventId)),
          Stream.takeUntil((record) => record?.decision !== undefined),
          Stream.runDrain
        )
      }).pipe(Effect.scoped)

    const find = (eventId: string) =>
      Effect.flatMap(gateway.find(eventId), (record) =>
        record === undefined
          ? new GatewayError({ reason: "not-found", message: `there is no event "${eventId}"` })
          : Effect.succeed(record)
      )
    /** Waits until the event's run was abandoned, and a person is asked. */
    const abandoned = (eventId: string) =>
      Effect.gen(function* () {
        const told = yield* gateway.events("ApprovalRequested")
        const looks = Stream.filter(told, (event) => event._tag === "Lagged" || event.eventId === eventId)
        yield* Stream.concat(Stream.make("now"), looks).pipe(
          Stream.mapEffect(() => gateway.find(eventId)),
          Stream.takeUntil((record) => record?.state === "awaiting-approval"),
          Stream.runDrain
        )
        return yield* find(eventId)
      }).pipe(Effect.scoped)
    /** The event's end, or that a person is asked what becomes of it, since its run was abandoned. */
    const end = (eventId: string) =>
      Effect.raceFirst(
        Effect.map(gateway.outcome(eventId), (record) => ({ record, answer: answerOf })),
        Effect.map(abandoned(eventId), (record) => ({ record, answer: held }))
      )
    const settled = (eventId: string) =>
      Effect.gen(function* () {
        yield* decided(eventId)
        const record = yield* find(eventId)
        if (record.decision !== "execute" && record.decision !== "skip") return held(record)
        const own = yield* end(eventId)
        const { event, mergedInto, run } = own.record
        // Where another run of its session took it over, that one's answer is its answer.
        const { answer, record: last } =
          run?.state === "merged" && mergedInto !== undefined ? yield* end(mergedInto) : own
        return answer({ ...last, event }, current().accessControl.replyToUnknown)
      })
    const closed = (eventId: string) => Effect.zipRight(Deferred.await(closing), Effect.map(find(eventId), held))

    return {
      say: (principal, contentType, body) =>
        Effect.gen(function* () {
          const { chatId, replyTo, text } = yield* read(contentType, body)
          if (replyTo !== undefined && !options.channels.has(replyTo)) {
            const known = options.channels.size === 0 ? "none" : [...options.channels].join(", ")
            return yield* Effect.fail(
              Problem.problem(422, `replyTo: there is no channel "${replyTo}"; channels: ${known}`)
            )
          }
          const sessionKey = sessionKeyOf(principal, chatId)
          const { eventId } = yield* gateway.submit({
            source: "channel",
            payload: { text },
            metadata: { channel: "http", chatId, type: "message" },
            sender: principal,
            sessionKey,
            // The target is the conversation, as the token proves it: nobody can have an answer sent as if it were another's.
            replyTo: replyTo === undefined ? undefined : { channel: replyTo, target: sessionKey }
          })
          return yield* Effect.raceFirst(settled(eventId), closed(eventId))
        }).pipe(orProblem),
      close: Effect.asVoid(Deferred.succeed(closing, undefined))
    }
  })
