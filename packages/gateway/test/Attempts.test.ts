import { describe, expect, it } from "@effect/vitest"
import { AuditLog, type GatewayConfigInput, GatewayService } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import type { GatewayServiceShape } from "@postilion/gateway/GatewayService"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, turn, watch } from "./TestGateway.ts"

const message = (text: string, sessionKey = "s"): RawInput => ({
  source: "state-change",
  payload: { text },
  sessionKey
})

/** A gateway whose attempts are timed out after a second, and may take ten to end then. */
const within = <A, E>(
  respond: Respond,
  body: Effect.Effect<A, E, Effect.Effect.Context<typeof watch> | GatewayService | AuditLog>
) =>
  body.pipe(
    Effect.scoped,
    Effect.provide(gateway({ limits: { runTimeoutMs: 1_000, interruptGraceMs: 10_000 } }, respond)),
    Effect.provide(StoreMemory.layer)
  )

const runOf = (eventId: string) =>
  Effect.map(
    Effect.flatMap(GatewayService, (gw) => gw.find(eventId)),
    (record) => record?.run
  )

describe("an attempt", () => {
  it.effect("N11: a timed-out run goes on while its retry starts: the retry waits for its end", () =>
    Effect.gen(function* () {
      const held = yield* Deferred.make<void>()
      let under = 0
      let most = 0
      const attempts: Array<number> = []
      const respond: Respond = ({ attempt }) =>
        Effect.gen(function* () {
          attempts.push(attempt)
          under += 1
          most = Math.max(most, under)
          // Deaf to its interruption for a while, as a call into a foreign library is.
          if (attempt === 1) yield* Effect.uninterruptible(Deferred.await(held))
          if (attempt === 1) yield* Effect.never
          return answerOf(`attempt ${attempt}`)
        }).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              under -= 1
            })
          )
        )
      yield* within(
        respond,
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          const { eventId } = yield* gw.submit(message("a"))
          yield* told.until("ProactiveActionInitiated", 1)
          yield* TestClock.adjust("1 second")
          yield* TestClock.adjust("5 seconds")
          expect(attempts).toEqual([1])
          expect(yield* runOf(eventId)).toMatchObject({ state: "running", attempt: 1 })
          yield* Deferred.succeed(held, undefined)
          // Tried again a second after its end.
          while ((yield* runOf(eventId))?.state === "running") yield* Effect.yieldNow()
          expect(yield* runOf(eventId)).toMatchObject({ state: "pending", attempt: 1, leaseUntil: undefined })
          expect(attempts).toEqual([1])
          yield* TestClock.adjust("1 second")
          expect(yield* gw.outcome(eventId)).toMatchObject({ run: { text: "attempt 2", attempt: 2 } })
          expect(most).toBe(1)
          const kinds = (yield* (yield* AuditLog).query({ eventId })).map(({ kind }) => kind)
          expect(kinds).toEqual(["event.decided", "run.started", "run.retrying", "run.started", "run.ended"])
        })
      )
    })
  )

  it.effect(
    "N17: a session lane stuck: what ignores its interruption is let go of, and its late result is fenced off",
    () =>
      Effect.gen(function* () {
        const held = yield* Deferred.make<void>()
        const respond: Respond = ({ taskDescription }) =>
          taskDescription === "deaf"
            ? Effect.uninterruptible(Effect.as(Deferred.await(held), answerOf("too late")))
            : Effect.succeed(answerOf(`heard ${taskDescription}`))
        yield* within(
          respond,
          Effect.gen(function* () {
            const gw = yield* GatewayService
            const audit = yield* AuditLog
            const told = yield* watch
            const { eventId } = yield* gw.submit(message("deaf"))
            const next = yield* gw.submit(message("next"))
            yield* told.until("ProactiveActionInitiated", 1)
            yield* TestClock.adjust("1 second")
            yield* TestClock.adjust("10 seconds")
            // The session goes on.
            expect(yield* gw.outcome(next.eventId)).toMatchObject({ run: { text: "heard next" } })
            const abandoned = yield* runOf(eventId)
            expect(abandoned).toMatchObject({
              state: "abandoned",
              attempt: 1,
              error: expect.stringMatching(/longer than 1000 ms.*went on for more than 10000 ms/)
            })
            // It may still be using what it reserved.
            expect((yield* gw.status()).budget).toMatchObject({ used: 200, reserved: 0 })
            yield* Deferred.succeed(held, undefined)
            while ((yield* audit.query({ kind: "run.fenced" })).length === 0) yield* Effect.yieldNow()
            const [fenced] = yield* audit.query({ kind: "run.fenced" })
            expect(fenced).toMatchObject({ eventId, data: { attempt: 1, outcome: "interrupted" } })
            expect(yield* runOf(eventId)).toEqual(abandoned)
            expect((yield* gw.status()).budget).toMatchObject({ used: 200, reserved: 0 })
            expect(told.all("ProactiveActionCompleted")).toHaveLength(2)
          })
        )
      })
  )

  it.effect(
    "N17: a run that falls silent is interrupted, and its session goes on; one that reports may take its time",
    () =>
      Effect.gen(function* () {
        const respond: Respond = ({ onProgress = Effect.void, taskDescription }) =>
          Effect.gen(function* () {
            yield* onProgress
            if (taskDescription === "silent") return yield* Effect.never
            for (let i = 0; i < 3; i++) yield* Effect.zipRight(Effect.sleep("2 minutes"), onProgress)
            return answerOf(`${taskDescription} done`)
          })
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          const silent = yield* gw.submit(message("silent"))
          const next = yield* gw.submit(message("steady"))
          yield* told.until("ProactiveActionInitiated", 1)
          yield* TestClock.adjust("130 seconds")
          expect(yield* gw.outcome(silent.eventId)).toMatchObject({
            run: { state: "failed", error: expect.stringContaining("showed no progress for 130000 ms") }
          })
          yield* told.until("ProactiveActionInitiated", 2)
          yield* TestClock.adjust("2 minutes")
          yield* TestClock.adjust("2 minutes")
          yield* TestClock.adjust("2 minutes")
          expect(yield* gw.outcome(next.eventId)).toMatchObject({ run: { text: "steady done", attempt: 1 } })
          // What the silent one used is not known: all that was held for it is charged.
          expect((yield* gw.status()).budget).toMatchObject({ used: 200, reserved: 0 })
        }).pipe(
          Effect.scoped,
          Effect.provide(gateway({ limits: { runStallMs: 130_000, maxAttempts: 1 } }, respond)),
          Effect.provide(StoreMemory.layer)
        )
      })
  )

  it.effect("has a lease that goes on while it does, and ends with it", () =>
    Effect.gen(function* () {
      const held = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* gw.submit(message("a"))
        yield* told.until("ProactiveActionInitiated", 1)
        const leased = Effect.map(runOf(eventId), (run) => run?.leaseUntil?.getTime())
        expect(yield* leased).toBe(60_000)
        yield* TestClock.adjust("20 seconds")
        while ((yield* leased) === 60_000) yield* Effect.yieldNow()
        expect(yield* leased).toBe(80_000)
        yield* Deferred.succeed(held, undefined)
        expect((yield* gw.outcome(eventId)).run).toMatchObject({ state: "completed", leaseUntil: undefined })
      }).pipe(
        Effect.scoped,
        Effect.provide(gateway({}, () => Effect.as(Deferred.await(held), answerOf("done")))),
        Effect.provide(StoreMemory.layer)
      )
    })
  )

  it.effect("terminated, it is cancelled when it has ended, and not before", () =>
    Effect.gen(function* () {
      const held = yield* Deferred.make<void>()
      yield* within(
        () => Effect.zipRight(Effect.uninterruptible(Deferred.await(held)), Effect.never),
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          const { eventId } = yield* gw.submit(message("a"))
          yield* told.until("ProactiveActionInitiated", 1)
          yield* gw.terminate()
          expect(yield* runOf(eventId)).toMatchObject({ state: "running" })
          yield* Deferred.succeed(held, undefined)
          expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "cancelled" } })
        })
      )
    })
  )

  it.effect("a runner that interrupts itself has failed: its session is not left waiting", () =>
    within(
      () => Effect.interrupt,
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const failed = yield* Effect.flip(gw.run(message("a")))
        expect(failed).toBeInstanceOf(AgentRunError)
        expect(failed.message).toBe("the runner interrupted itself")
        expect((yield* gw.status()).budget).toMatchObject({ reserved: 0 })
      })
    )
  )
})

describe("what an attempt used that is followed by another", () => {
  const used = { inputTokens: 10, outputTokens: 5 }
  const overloaded = Effect.fail(new AgentRunError({ message: "overloaded", retryable: true, usage: used }))
  const settings: GatewayConfigInput = {
    limits: { maxAttempts: 3 },
    prices: { scripted: { inputPerMillion: 1_000_000, outputPerMillion: 2_000_000 } }
  }
  /** Waits until its attempt has ended, and the next one is due later. */
  const between = (eventId: string) =>
    Effect.repeat(Effect.zipRight(turn, runOf(eventId)), {
      until: (run) => run?.state === "pending" && run.attempt > 0
    })
  const budget = Effect.map(
    Effect.flatMap(GatewayService, (gw) => gw.status()),
    ({ budget: { reserved, used } }) => ({ reserved, used })
  )

  it.scoped("is charged with the run in the end, over a restart between the attempts", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const opened = gatewayOn(file, settings, ({ attempt }) =>
        attempt < 3 ? overloaded : Effect.succeed(answerOf("done"))
      )
      const eventId = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* gw.submit(message("a"))
        yield* told.until("ProactiveActionInitiated", 1)
        yield* TestClock.adjust("1 second")
        yield* told.until("ProactiveActionInitiated", 2)
        expect(yield* between(eventId)).toMatchObject({
          inputTokens: 20,
          outputTokens: 10
        })
        return eventId
      }).pipe(Effect.scoped, Effect.provide(opened))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        expect(yield* gw.outcome(eventId)).toMatchObject({
          run: { state: "completed", attempt: 3, inputTokens: 80, outputTokens: 50, costUsd: 180 }
        })
        expect(yield* budget).toEqual({ reserved: 0, used: 130 })
        expect((yield* gw.status()).stats.totalTokensUsed).toBe(130)
        const records = yield* (yield* AuditLog).query({ eventId, kind: "run.retrying" })
        expect(records.map(({ data }) => data)).toMatchObject([used, used])
      }).pipe(Effect.provide(opened))
      expect(yield* Effect.provide(budget, opened)).toEqual({ reserved: 0, used: 130 })
    })
  )

  for (const [how, end] of [
    ["terminated", (gw: GatewayServiceShape) => gw.terminate()],
    ["aborted", (gw: GatewayServiceShape, eventId: string) => gw.abort(eventId)]
  ] as const) {
    it.effect(`N3: ${how} after it had shown progress, it is charged all it may have used; before, nothing`, () =>
      Effect.gen(function* () {
        const called = yield* Effect.makeLatch()
        const respond: Respond = ({ onProgress = Effect.void, taskDescription }) =>
          (taskDescription === "calling" ? onProgress : Effect.void).pipe(
            Effect.zipRight(called.open),
            Effect.zipRight(Effect.never)
          )
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          for (const [text, used] of [
            ["idle", 0],
            ["calling", 100]
          ] as const) {
            yield* called.close
            const { eventId } = yield* gw.submit(message(text, text))
            yield* called.await
            yield* end(gw, eventId)
            const { run } = yield* gw.outcome(eventId)
            expect(run).toMatchObject({ state: "cancelled", inputTokens: 0, outputTokens: used })
            expect((yield* gw.status()).budget).toMatchObject({ used, reserved: 0 })
            yield* gw.resume()
          }
        }).pipe(Effect.provide(gateway({}, respond)), Effect.provide(StoreMemory.layer))
      })
    )
  }

  it.scoped("is charged where the next one was cut off and the run is abandoned, or is dropped", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = {
        limits: { maxAttempts: 2, maxConcurrentRuns: 1 },
        sessions: { maxWaiting: 1, overflow: "drop-oldest" }
      }
      const respond: Respond = ({ attempt }) => (attempt === 1 ? overloaded : Effect.never)
      const opened = gatewayOn(file, config, respond)
      const { cut, waits } = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const cut = yield* gw.submit(message("a", "one"))
        yield* told.until("ProactiveActionInitiated", 1)
        yield* TestClock.adjust("1 second")
        yield* told.until("ProactiveActionInitiated", 2)
        return { cut: cut.eventId, waits: (yield* gw.submit(message("b", "two"))).eventId }
      }).pipe(Effect.scoped, Effect.provide(opened))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        expect(yield* runOf(cut)).toMatchObject({ state: "abandoned", inputTokens: 10, outputTokens: 105 })
        expect(yield* budget).toMatchObject({ used: 115 })
        // Between its attempts; nothing more is begun before it is dropped.
        expect(yield* between(waits)).toMatchObject({ outputTokens: 5 })
        yield* gw.pause()
      }).pipe(Effect.scoped, Effect.provide(opened))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* gw.submit(message("c", "two"))
        expect(yield* gw.outcome(waits)).toMatchObject({
          run: { state: "cancelled", inputTokens: 10, outputTokens: 5 }
        })
        expect(yield* budget).toMatchObject({ used: 130 })
      }).pipe(Effect.provide(opened))
      expect(yield* Effect.provide(budget, opened)).toMatchObject({ used: 130 })
    })
  )
})
