import { describe, expect, it } from "@effect/vitest"
import {
  Backtest,
  BacktestReport,
  type GatewayConfigInput,
  GatewayService,
  Policy,
  PolicyEngine,
  type RawInput,
  Store
} from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import type { EventRow } from "@postilion/gateway/records/Tables"
import { Effect, Schema, TestClock } from "effect"
import { reproduces } from "./BacktestReproduces.ts"
import { gateway } from "./TestGateway.ts"

describe("a backtest of the policies that were live", () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it.scoped(
      `decides 300 random events as they were decided, over three restarts (seed ${seed})`,
      () => reproduces(seed, 300, 3),
      60_000
    )
  }
})

const freeze = Policy.make("Freeze", {
  priority: 15,
  evaluate: ({ metadata }) =>
    metadata.type === "deployment" ? Policy.skip(`frozen for ${metadata.days} days`) : Policy.pass
})
const submit = (input: Partial<RawInput> = {}) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    const { eventId } = yield* gw.submit({ source: "webhook", payload: {}, ...input })
    return yield* gw.outcome(eventId)
  })
const live = Effect.map(PolicyEngine, ({ policies }) => policies)
const config: GatewayConfigInput = { prices: { scripted: { inputPerMillion: 10, outputPerMillion: 20 } } }
const test = (
  name: string,
  body: Effect.Effect<void, unknown, GatewayService | PolicyEngine | Store>,
  given: GatewayConfigInput = config
) => it.scoped(name, () => body.pipe(Effect.provide(gateway(given)), Effect.provide(StoreMemory.layer)))

describe("a backtest's report", () => {
  test(
    "says what differs, by policy and reason, what it costs, and which events to look at",
    Effect.gen(function* () {
      for (const days of [1, 2, 3]) yield* submit({ metadata: { type: "deployment", days } })
      for (const _ of [1, 2]) yield* submit()
      const report = yield* Backtest.run({ policies: [...(yield* live), freeze], config, examples: 2 })
      expect(report).toMatchObject({
        events: 5,
        changed: 3,
        changes: [
          {
            recorded: { action: "execute", policy: "default" },
            replayed: { action: "skip", policy: "Freeze" },
            reason: "frozen for # days",
            count: 3
          }
        ],
        recorded: { modelCalls: 5, tokens: 500 },
        replayed: { modelCalls: 2, tokens: 200 },
        estimated: { modelCalls: 0 }
      })
      expect(report.recorded.usd - report.replayed.usd).toBeCloseTo(3 * 0.0014)
      expect(report.examples.map(({ replayed }) => replayed.reason)).toEqual(["frozen for 1 days", "frozen for 2 days"])
      expect(report.render().split("\n")[0]).toBe(
        "5 events · 3 decisions differ (all skip ← execute, Freeze) · 3 fewer model calls"
      )
      const wire: unknown = JSON.parse(JSON.stringify(yield* Schema.encode(BacktestReport)(report)))
      expect(yield* Schema.decodeUnknown(BacktestReport)(wire)).toEqual(report)
    })
  )

  test(
    "marks as estimated what was never run: the average of its agent's runs, or what would have been reserved",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(freeze)
      yield* submit({ metadata: { type: "deployment" } })
      const without = { policies: (yield* live).filter(({ _tag }) => _tag !== "Freeze"), config }
      const none = yield* Backtest.run(without)
      // The estimate of this runner is 100 tokens, and money is not counted without a budget of it.
      expect(none.estimated).toEqual({ modelCalls: 1, tokens: 100, usd: 0 })
      yield* submit()
      const one = yield* Backtest.run(without)
      expect(one.recorded).toEqual({ modelCalls: 1, tokens: 100, usd: 0.0014 })
      expect(one.estimated).toEqual({ modelCalls: 1, tokens: 100, usd: 0.0014 })
      expect(one.replayed).toEqual({ modelCalls: 2, tokens: 200, usd: 0.0028 })
      expect(one.render()).toContain("of which estimated: 1 model call, 100 tokens, $0.00")
    })
  )

  test(
    "names the decision or the event that cannot be read",
    Effect.gen(function* () {
      const store = yield* Store
      const { event } = yield* submit()
      const spoil = (set: Partial<EventRow>) =>
        Effect.gen(function* () {
          yield* store.commit([{ op: "update", table: "events", key: { id: event.id }, set }])
          return yield* Effect.flip(Backtest.run({ policies: yield* live, config }))
        })
      const evidence = yield* spoil({ evidence: "[1, 2" })
      expect(evidence).toMatchObject({
        _tag: "StoreError",
        message: expect.stringContaining(`on event ${event.id}, cannot be read`)
      })
      const metadata = yield* spoil({ metadata: "{" })
      expect(metadata).toMatchObject({
        _tag: "StoreError",
        message: expect.stringContaining(`event ${event.id} cannot be read`)
      })
    })
  )

  test(
    "leaves out what a run caused that does not come about, and what that caused",
    Effect.gen(function* () {
      const root = yield* submit({ metadata: { type: "deployment" } })
      const child = yield* submit({ source: "a2a", causedBy: root.run?.id })
      yield* submit({ source: "a2a", causedBy: child.run?.id })
      yield* submit()
      const report = yield* Backtest.run({ policies: [...(yield* live), freeze], config })
      expect(report).toMatchObject({ events: 4, changed: 1, notCaused: 2, replayed: { modelCalls: 1, tokens: 100 } })
    })
  )

  test(
    "has what a policy answers that fails, and waits for one that takes its time",
    Effect.gen(function* () {
      yield* submit()
      const broken = { _tag: "Broken", priority: 1, evaluate: () => Effect.fail("no") }
      const slow = {
        _tag: "Slow",
        priority: 1,
        evaluate: () => Effect.promise(async () => Policy.skip("after a while"))
      }
      const failing = yield* Backtest.run({ policies: [...(yield* live), broken], config })
      expect(failing.examples[0]?.replayed).toEqual({
        action: "escalate",
        policy: "Broken",
        reason: "policy Broken failed: no"
      })
      expect(failing.stillHeld).toBe(1)
      const waiting = yield* Backtest.run({ policies: [...(yield* live), slow], config })
      expect(waiting.examples[0]?.replayed).toEqual({ action: "skip", policy: "Slow", reason: "after a while" })
    })
  )

  test(
    "is of the events received between two instants",
    Effect.gen(function* () {
      for (const _ of [1, 2, 3]) {
        yield* submit()
        yield* TestClock.adjust("1 day")
      }
      const eventsOf = (range: Pick<Backtest.BacktestOptions, "from" | "to">) =>
        Effect.gen(function* () {
          return (yield* Backtest.run({ policies: yield* live, config, ...range })).events
        })
      expect(yield* eventsOf({})).toBe(3)
      expect(yield* eventsOf({ from: "-2 days" })).toBe(2)
      expect(yield* eventsOf({ from: 1, to: new Date(86_400_001) })).toBe(1)
      expect(yield* eventsOf({ from: "-36 hours", to: "-25 hours" })).toBe(0)
    })
  )

  test(
    "is refused for an instant that is none, a policy that is there twice, and another time zone than the record's",
    Effect.gen(function* () {
      yield* submit()
      const message = (options: Partial<Backtest.BacktestOptions>) =>
        Effect.gen(function* () {
          const failure = yield* Effect.flip(Backtest.run({ policies: yield* live, ...options }))
          return failure.message
        })
      expect(yield* message({ from: "30 days" })).toContain('write it as "-30 days"')
      expect(yield* message({ to: new Date(Number.NaN) })).toContain("is no instant")
      expect(yield* message({ policies: [freeze, freeze] })).toContain('two of the name "Freeze"')
      expect(yield* message({ config: { timezone: "Asia/Kolkata" } })).toContain(
        "no day ends at 1970-01-02T00:00:00.000Z"
      )
    })
  )
})
