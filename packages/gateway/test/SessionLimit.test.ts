import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Store } from "@postilion/gateway"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import { StoreError } from "@postilion/gateway/records/Store"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, Layer, TestClock } from "effect"
import { answerOf, gateway, type Respond, watch, wrapStore } from "./TestGateway.ts"

const say = (n: number, sessionKey = "s"): RawInput => ({
  source: "state-change",
  payload: { text: `message ${n}` },
  sessionKey
})
const untilOpen =
  (gate: Deferred.Deferred<void>): Respond =>
  ({ taskDescription }) =>
    Effect.as(Deferred.await(gate), answerOf(taskDescription))

describe("what waits in a session is bounded", () => {
  it.effect("full, it refuses what comes next, says so, and keeps nothing of it; other sessions go on", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const running = yield* gw.submit(say(0))
        yield* told.until("ProactiveActionInitiated", 1)
        // All in one transaction: what is decided and not committed yet counts.
        const outcomes = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => Effect.either(gw.submit(say(n))), {
          concurrency: "unbounded"
        })
        expect(outcomes.map(({ _tag }) => _tag)).toEqual(["Right", "Right", "Right", "Left", "Left"])
        const refused = yield* Effect.flip(gw.submit(say(6)))
        expect(refused).toMatchObject({
          reason: "overloaded",
          retryAfterSeconds: 1,
          message: "3 runs wait in this session already (sessions.maxWaiting); try again in a second"
        })
        expect(told.all("SessionOverflowed")).toHaveLength(3)
        expect(told.all("SessionOverflowed")[0]).toMatchObject({ sessionKey: "s", waiting: 3, outcome: "refused" })
        const audit = yield* AuditLog
        expect(yield* audit.query({ kind: "session.overflowed" })).toHaveLength(3)
        expect(yield* (yield* Store).find("events", {})).toHaveLength(4)
        expect((yield* gw.submit(say(7, "another"))).decision).toBe("execute")
        yield* Deferred.succeed(gate, undefined)
        yield* gw.outcome(running.eventId)
        const last = outcomes[2]
        yield* gw.outcome(last?._tag === "Right" ? last.right.eventId : "")
        // There is room again.
        expect((yield* gw.submit(say(8))).decision).toBe("execute")
      }).pipe(
        Effect.scoped,
        Effect.provide(
          gateway({ sessions: { maxWaiting: 3 } }, untilOpen(gate)).pipe(Layer.provideMerge(StoreMemory.layer))
        )
      )
    })
  )

  it.effect(
    "told to drop the oldest, it cancels what has waited longest; the others run in order, the books add up",
    () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          yield* gw.submit(say(0))
          yield* told.until("ProactiveActionInitiated", 1)
          const receipts = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => gw.submit(say(n)), {
            concurrency: "unbounded"
          })
          expect((yield* gw.status()).pending).toMatchObject({ waiting: 2, running: 1 })
          for (const { eventId } of receipts.slice(0, 3)) {
            expect(yield* gw.outcome(eventId)).toMatchObject({
              state: "executed",
              run: {
                state: "cancelled",
                attempt: 0,
                error: "dropped, since more than 2 runs would wait in its session (sessions.maxWaiting)"
              }
            })
          }
          expect(told.all("SessionOverflowed").map(({ eventId, outcome }) => [eventId, outcome])).toEqual(
            receipts.slice(0, 3).map(({ eventId }) => [eventId, "dropped"])
          )
          expect((yield* gw.status()).budget).toMatchObject({ reserved: 300 })
          yield* Deferred.succeed(gate, undefined)
          for (const { eventId } of receipts.slice(3)) yield* gw.outcome(eventId)
          expect(told.all("ProactiveActionInitiated").map(({ taskDescription }) => taskDescription)).toEqual([
            "message 0",
            "message 4",
            "message 5"
          ])
          expect((yield* gw.status()).budget).toMatchObject({ used: 300, reserved: 0 })
          expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
        }).pipe(
          Effect.scoped,
          Effect.provide(gateway({ sessions: { maxWaiting: 2, overflow: "drop-oldest" } }, untilOpen(gate))),
          Effect.provide(StoreMemory.layer)
        )
      })
  )

  it.effect("a drop whose transaction fails has not happened: what was to be dropped runs", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      let failing = false
      const store = wrapStore((store) => ({
        ...store,
        commit: (writes) => (failing ? Effect.fail(new StoreError({ message: "disk full" })) : store.commit(writes))
      })).pipe(Layer.provide(StoreMemory.layer))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        yield* gw.submit(say(0))
        yield* told.until("ProactiveActionInitiated", 1)
        const first = yield* gw.submit(say(1))
        failing = true
        expect(yield* Effect.flip(gw.submit(say(2)))).toMatchObject({ reason: "storage" })
        failing = false
        yield* Deferred.succeed(gate, undefined)
        expect(yield* gw.outcome(first.eventId)).toMatchObject({ run: { state: "completed", text: "message 1" } })
        expect(told.all("SessionOverflowed")).toEqual([])
      }).pipe(
        Effect.scoped,
        Effect.provide(gateway({ sessions: { maxWaiting: 1, overflow: "drop-oldest" } }, untilOpen(gate))),
        Effect.provide(store)
      )
    })
  )

  for (const whenBusy of ["queue", "interrupt", "collect"] as const) {
    it.effect(`${whenBusy}: a run whose turn comes in the very batch that drops it ends once`, () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* gw.pause()
        const [dropped] = yield* Effect.forEach([1, 2], (n) => gw.submit(say(n)))
        const [, last] = yield* Effect.all([gw.resume(), gw.submit(say(3))], { concurrency: "unbounded" })
        yield* TestClock.adjust("1 minute")
        yield* gw.outcome(last.eventId)
        const id = dropped?.eventId ?? ""
        expect(yield* gw.outcome(id)).toMatchObject({
          run: { state: "cancelled", attempt: 0, error: expect.stringContaining("sessions.maxWaiting") }
        })
        const audit = yield* AuditLog
        expect(yield* audit.query({ kind: "run.ended", eventId: id })).toHaveLength(1)
        expect(yield* audit.query({ kind: "run.merged" })).toHaveLength(whenBusy === "collect" ? 1 : 0)
      }).pipe(
        Effect.provide(
          gateway({ sessions: { maxWaiting: 2, overflow: "drop-oldest", whenBusy } }, ({ taskDescription }) =>
            Effect.succeed(answerOf(taskDescription))
          )
        ),
        Effect.provide(StoreMemory.layer)
      )
    )
  }
})

describe("what waits in the gateway is bounded, also where all of it comes at once", () => {
  const unlimited = { maxActionsPerHour: "unlimited", dailyTokenBudget: "unlimited" } as const
  const flood = (input: (n: number) => RawInput) =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const outcomes = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, n) => n),
        (n) => Effect.either(gw.submit(input(n))),
        { concurrency: "unbounded" }
      )
      const taken = outcomes.flatMap((outcome) => (outcome._tag === "Right" ? [outcome.right.eventId] : []))
      const refused = outcomes.flatMap((outcome) => (outcome._tag === "Left" ? [outcome.left] : []))
      expect(refused.every(({ reason, retryAfterSeconds }) => reason === "overloaded" && retryAfterSeconds === 1)).toBe(
        true
      )
      expect(yield* (yield* Store).find("events", {})).toHaveLength(taken.length)
      return taken
    })
  const own = (n: number): RawInput => ({ source: "webhook", payload: { n }, idempotencyKey: `key-${n}` })

  it.effect(
    "runs of an agent, besides those that may begin; a delivery that is repeated is answered all the same",
    () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          const taken = yield* flood(own)
          expect(taken).toHaveLength(5)
          expect((yield* gw.status()).pending).toMatchObject({ running: 2, waiting: 3 })
          expect(yield* gw.submit(own(0))).toMatchObject({ duplicate: true, eventId: taken[0] })
          yield* Deferred.succeed(gate, undefined)
          yield* Effect.forEach(taken, gw.outcome)
          expect((yield* gw.submit(own(100))).decision).toBe("execute")
        }).pipe(
          Effect.provide(
            gateway({ policies: unlimited, limits: { maxConcurrentRuns: 2, maxWaitingRuns: 3 } }, untilOpen(gate)).pipe(
              Layer.provideMerge(StoreMemory.layer)
            )
          )
        )
      })
  )
  it.effect("events that are held, for whatever they wait; there is room again once they have ended", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const kinds = [{ mergeKey: "a" }, { category: "deploy" }, { mergeKey: "b" }]
      const taken = yield* flood((n) => ({ ...own(n), metadata: kinds[n] ?? { category: "deploy" } }))
      expect(taken).toHaveLength(4)
      expect((yield* gw.status()).pending).toMatchObject({ merging: 2, awaitingApproval: 2 })
      yield* TestClock.adjust("5 minutes")
      yield* gw.outcome(taken[0] ?? "")
      expect((yield* gw.submit(own(100))).decision).toBe("execute")
    }).pipe(
      Effect.provide(
        gateway({ policies: { ...unlimited, requireApprovalFor: ["deploy"] }, limits: { maxHeld: 4 } }).pipe(
          Layer.provideMerge(StoreMemory.layer)
        )
      )
    )
  )
})
