import { type EventRecord, GatewayError, type GatewayEvent, GatewayService, Reconfiguration } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Deferred, Effect, Stream } from "effect"
import type { AccessShape, Principal } from "./Access.ts"
import type { Action } from "./Scopes.ts"
import { CHANNEL as WEBSOCKET } from "./socket/Rooms.ts"

export interface ConversationsOptions {
  /** Where a message may have its answer sent, besides being answered here. */
  readonly channels: ReadonlySet<string>
}

export interface Message {
  readonly text: string
  readonly chatId: string
  /** The callback the answer is also sent to. */
  readonly replyTo?: string | undefined
}

/** What came of a message. `held`: nobody answers now, since it waits for its time or a person, or since the gateway stops first. */
export interface Said {
  readonly record: EventRecord
  readonly held: boolean
}

export interface Conversations {
  /**
   * Hands what a principal says to the gateway and waits for the answer. Fails where the sender has no access (403), the agent
   * failed (500), or there is no such callback (422).
   */
  readonly say: (principal: string, message: Message) => Effect.Effect<Said, GatewayError | Problem.HttpAnswer>
  /** Nobody is kept waiting from here on. */
  readonly close: Effect.Effect<void>
}

/** JSON, because neither names nor chat ids are ours to forbid a `:`: two different pairs never share a session. */
const sessionKeyOf = (principal: string, chatId: string): string => `http:${JSON.stringify([principal, chatId])}`

/** Where who says something has shown a token. */
const PROVED: ReadonlySet<unknown> = new Set(["http", WEBSOCKET])

/** Whether an event is what this principal said here, or over a WebSocket. Others may have a sender of that name, which no token has proved. */
export const wasSaidBy = (principal: string, { metadata, sender, source }: GatewayEvent): boolean =>
  source === "channel" && PROVED.has(metadata.channel) && sender === principal
/** Whether somebody may do something to an event: to any, by this action, or since it is what they said. */
export const isOpenTo =
  (access: Pick<AccessShape, "allows">, principal: Principal, action: Action) =>
  (event: GatewayEvent): boolean =>
    access.allows(principal, action) || wasSaidBy(principal.name, event)

/** `replyToUnknown`: what a sender without access is answered. */
const answerOf = (record: EventRecord, replyToUnknown: string | undefined) => {
  const { event, policy, reason, run } = record
  if (run !== undefined && run.state !== "completed") {
    return Effect.fail(
      Problem.problem(500, `the agent did not answer: ${run.error ?? `the run was ${run.state}`}`, {
        members: { eventId: event.id }
      })
    )
  }
  if (policy === "AccessControl" && run === undefined) {
    return Effect.fail(
      Problem.problem(403, reason ?? "the sender has no access", {
        members: { eventId: event.id, ...(replyToUnknown === undefined ? {} : { reply: replyToUnknown }) }
      })
    )
  }
  return Effect.succeed({ record, held: false })
}

/** Conversations over HTTP: a message is an event of the source `channel`, and its answer that of the run. */
export const make = (
  options: ConversationsOptions
): Effect.Effect<Conversations, never, GatewayService | Reconfiguration> =>
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
        Effect.map(gateway.outcome(eventId), (record) => ({ record, held: false })),
        Effect.map(abandoned(eventId), (record) => ({ record, held: true }))
      )
    const settled = (eventId: string) =>
      Effect.gen(function* () {
        yield* decided(eventId)
        const record = yield* find(eventId)
        if (record.decision !== "execute" && record.decision !== "skip") return { record, held: true }
        const own = yield* end(eventId)
        const { event, mergedInto, run } = own.record
        // Where another run of its session took it over, that one's answer is its answer.
        const last = run?.state === "merged" && mergedInto !== undefined ? yield* end(mergedInto) : own
        const whole = { ...last.record, event }
        return last.held
          ? { record: whole, held: true }
          : yield* answerOf(whole, current().accessControl.replyToUnknown)
      })
    const closed = (eventId: string) =>
      Effect.zipRight(
        Deferred.await(closing),
        Effect.map(find(eventId), (record) => ({ record, held: true }))
      )

    return {
      say: (principal, { chatId, replyTo, text }) =>
        Effect.gen(function* () {
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
        }),
      close: Effect.asVoid(Deferred.succeed(closing, undefined))
    }
  })
