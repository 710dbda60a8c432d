import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, type Outbox } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Effect, Fiber, TestClock } from "effect"
import { channel } from "./TestChannel.ts"
import { answerOf, gateway, gatewayOn, tempFile, turn, watch } from "./TestGateway.ts"

const say = (text: string, change: Partial<RawInput> = {}): RawInput => ({
  source: "state-change",
  payload: { text },
  sessionKey: "s",
  sender: "ada",
  ...change
})
/** How often each run was said to end, and by whom. */
const ends = Effect.map(
  Effect.flatMap(AuditLog, (audit) => audit.query()),
  (records) =>
    records.filter(({ kind }) => kind === "run.ended").map(({ data }) => [data.state, data.by ?? null, data.attempt])
)
/** An agent that begins and does not end, and notes when it is interrupted. */
const endless = () => {
  const notes: Array<string> = []
  const respond = () =>
    Effect.onInterrupt(Effect.never, () =>
      Effect.zipRight(
        turn,
        Effect.sync(() => notes.push("interrupted"))
      )
    )
  return { notes, respond }
}
const on = <A, E>(
  body: Effect.Effect<A, E, GatewayService | AuditLog | Outbox | Effect.Effect.Context<typeof watch>>,
  ...args: Parameters<typeof gateway>
) => body.pipe(Effect.scoped, Effect.provide(gateway(...args)), Effect.provide(StoreMemory.layer))

describe("a run that somebody aborts", () => {
  it.effect("is interrupted, has ended when that is answered, and the next of its session has its turn", () => {
    const { notes, respond } = endless()
    const chat = channel(undefined, { name: "chat" })
    return on(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* gw.submit(say("one", { replyTo: { channel: "chat", target: "ada" } }))
        yield* told.until("ProactiveActionInitiated", 1)
        const next = yield* gw.submit(say("two"))
        const record = yield* gw.abort(eventId, { by: "olga" })
        expect(notes).toEqual(["interrupted"])
        expect(record.run).toMatchObject({ state: "cancelled", error: "aborted by olga", attempt: 1 })
        expect(yield* ends).toEqual([["cancelled", "olga", 1]])
        expect((yield* gw.status()).budget.reserved).toBe(100)
        yield* told.until("ProactiveActionInitiated", 2)
        expect(told.all("ProactiveActionInitiated")[1]?.eventId).toBe(next.eventId)
        // Who waits for an answer is told that there is none.
        yield* told.until("DeliverySent", 1)
        expect(chat.messages).toMatchObject([{ eventId, outcome: "failed", target: "ada" }])
      }),
      {},
      respond,
      { channels: [chat] }
    )
  })

  it.effect(
    "does not begin where it waits: for its session, its agent, the switch; and is told by its own id too",
    () => {
      const { respond } = endless()
      return on(
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          yield* gw.submit(say("one"))
          yield* told.until("ProactiveActionInitiated", 1)
          const inSession = yield* gw.submit(say("two"))
          const forAgent = yield* gw.submit(say("three", { sessionKey: "other" }))
          yield* gw.pause()
          const paused = yield* gw.submit(say("four", { sessionKey: "another" }))
          for (const { eventId } of [inSession, forAgent, paused]) {
            const { run } = yield* gw.abort((yield* gw.find(eventId))?.run?.id ?? "", { by: "ada" })
            expect(run).toMatchObject({ state: "cancelled", attempt: 0, error: "aborted by ada" })
          }
          expect((yield* gw.status()).pending).toMatchObject({ running: 1, waiting: 0 })
          expect((yield* gw.status()).budget.reserved).toBe(100)
          yield* gw.resume()
          yield* turn
          expect(told.all("ProactiveActionInitiated")).toHaveLength(1)
          expect(yield* ends).toEqual(Array(3).fill(["cancelled", "ada", 0]))
        }),
        { limits: { maxConcurrentRuns: 1 } },
        respond
      )
    }
  )

  it.effect("is not tried again where it waits for its next attempt", () => {
    let calls = 0
    const respond = () =>
      Effect.suspend(() => {
        calls += 1
        return new AgentRunError({ message: "busy", retryable: true, usage: { inputTokens: 7, outputTokens: 0 } })
      })
    return on(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const { eventId } = yield* gw.submit(say("one"))
        while ((yield* gw.find(eventId))?.run?.error !== "busy") yield* turn
        const { run } = yield* gw.abort(eventId, { by: "ada" })
        expect(run).toMatchObject({ state: "cancelled", attempt: 1, inputTokens: 7, error: "aborted by ada" })
        yield* TestClock.adjust("1 hour")
        expect(calls).toBe(1)
        expect((yield* gw.status()).budget).toMatchObject({ used: 7, reserved: 0 })
      }),
      {},
      respond
    )
  })

  it.effect("ends once, whoever asks how often at the same time; who was not first is told how it ended", () => {
    const { respond } = endless()
    return on(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* gw.submit(say("one"))
        yield* told.until("ProactiveActionInitiated", 1)
        const asked = ["ada", "ada", "olga", "ada"].map((by) => Effect.either(gw.abort(eventId, { by })))
        const answers = yield* Effect.all([...asked, Effect.either(gw.terminate())], { concurrency: "unbounded" })
        expect(answers.map(({ _tag }) => _tag)).toEqual(["Right", "Right", "Left", "Right", "Right"])
        expect(answers[2]).toMatchObject({
          left: { reason: "conflict", message: expect.stringContaining("is cancelled: aborted by ada") }
        })
        expect(yield* ends).toEqual([["cancelled", "ada", 1]])
        expect(told.all("ProactiveActionCompleted")).toHaveLength(1)
      }),
      {},
      respond
    )
  })

  it.effect("conflict where it has ended or is none, not-found where nothing is or it is nobody's business", () =>
    on(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const reasonOf = (id: string, allowed?: () => boolean) =>
          Effect.map(Effect.flip(gw.abort(id, allowed === undefined ? {} : { allowed })), ({ reason }) => reason)
        const { eventId } = yield* gw.submit(say("one"))
        yield* gw.outcome(eventId)
        const held = yield* gw.submit(say("two", { metadata: { type: "deploy" } }))
        expect(yield* reasonOf(eventId)).toBe("conflict")
        expect(yield* reasonOf(held.eventId)).toBe("conflict")
        expect(yield* reasonOf("run_1")).toBe("not-found")
        expect(yield* reasonOf(held.eventId, () => false)).toBe("not-found")
        expect((yield* gw.find(eventId))?.run?.state).toBe("completed")
      }),
      { policies: { requireApprovalFor: ["deploy"] } }
    )
  )

  it.effect("one that cannot be interrupted is abandoned, and said to be", () => {
    const gate = Effect.unsafeMakeLatch()
    return on(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* gw.submit(say("one"))
        yield* told.until("ProactiveActionInitiated", 1)
        const aborted = yield* Effect.fork(Effect.flip(gw.abort(eventId, { by: "ada" })))
        yield* Effect.zipRight(turn, TestClock.adjust("1 minute"))
        expect(yield* Fiber.join(aborted)).toMatchObject({
          reason: "conflict",
          message: expect.stringContaining("is abandoned: the run was interrupted, and went on")
        })
        yield* gate.open
        expect((yield* ends).map(([state]) => state)).toEqual(["abandoned"])
      }),
      {},
      () => Effect.uninterruptible(Effect.as(gate.await, answerOf("done")))
    )
  })

  it.scoped("stays ended over a restart", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const { respond } = endless()
      const eventId = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const one = yield* gw.submit(say("one"))
        yield* told.until("ProactiveActionInitiated", 1)
        const two = yield* gw.submit(say("two"))
        yield* gw.abort(two.eventId)
        yield* gw.abort(one.eventId)
        return one.eventId
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, {}, respond)))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "cancelled", error: "aborted by program" } })
        expect((yield* gw.status()).pending).toMatchObject({ running: 0, waiting: 0 })
        expect(yield* ends).toHaveLength(2)
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )
})
