import { describe, expect, it } from "@effect/vitest"
import { type GatewayConfigInput, GatewayService, Store } from "@postilion/gateway"
import { parseZone, windowOf } from "@postilion/gateway/domain/Calendar"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, FastCheck as fc, Layer, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, watch } from "./TestGateway.ts"

const zoneOf = (name: string) => {
  const zone = parseZone(name)
  if (zone === undefined) throw new Error(`no zone ${name}`)
  return zone
}
const iso = (instant: number) => new Date(instant).toISOString().slice(0, 16)
const shown = (at: string, unit: "day" | "hour", zone: string) => {
  const { end, start } = windowOf(Date.parse(at), unit, zoneOf(zone))
  return `${iso(start)} to ${iso(end)}`
}

describe("windows of the calendar", () => {
  it("a day begins at midnight of its zone, also when it has 23 or 25 hours", () => {
    expect(shown("2024-06-03T12:00:00Z", "day", "UTC")).toBe("2024-06-03T00:00 to 2024-06-04T00:00")
    expect(shown("2024-06-03T21:59:59Z", "day", "Europe/Berlin")).toBe("2024-06-02T22:00 to 2024-06-03T22:00")
    expect(shown("2024-06-03T22:00:00Z", "day", "Europe/Berlin")).toBe("2024-06-03T22:00 to 2024-06-04T22:00")
    expect(shown("2024-03-31T12:00:00Z", "day", "Europe/Berlin")).toBe("2024-03-30T23:00 to 2024-03-31T22:00")
    expect(shown("2024-10-27T12:00:00Z", "day", "Europe/Berlin")).toBe("2024-10-26T22:00 to 2024-10-27T23:00")
    expect(shown("2024-11-03T05:30:00Z", "day", "America/New_York")).toBe("2024-11-03T04:00 to 2024-11-04T05:00")
  })

  it("a day whose midnight a clock change skips or repeats is one day all the same", () => {
    expect(shown("2018-11-04T12:00:00Z", "day", "America/Sao_Paulo")).toBe("2018-11-04T03:00 to 2018-11-05T02:00")
    expect(shown("2018-02-17T12:00:00Z", "day", "America/Sao_Paulo")).toBe("2018-02-17T02:00 to 2018-02-18T03:00")
  })

  it("an hour is 60 minutes, by the zone's clock: two of them when autumn repeats one", () => {
    expect(shown("2024-06-03T12:15:00Z", "hour", "UTC")).toBe("2024-06-03T12:00 to 2024-06-03T13:00")
    expect(shown("2024-06-03T12:15:00Z", "hour", "Asia/Kolkata")).toBe("2024-06-03T11:30 to 2024-06-03T12:30")
    expect(shown("2024-10-27T00:30:00Z", "hour", "Europe/Berlin")).toBe("2024-10-27T00:00 to 2024-10-27T01:00")
    expect(shown("2024-10-27T01:30:00Z", "hour", "Europe/Berlin")).toBe("2024-10-27T01:00 to 2024-10-27T02:00")
  })

  it("every instant is in its window, and windows follow on each other without a gap, in all zones", () => {
    const zones = Intl.supportedValuesOf("timeZone").filter((name) => parseZone(name) !== undefined)
    expect(zones.length).toBeGreaterThan(300)
    fc.assert(
      fc.property(
        fc.constantFrom(...zones),
        fc.integer({ min: Date.parse("1990-01-01T00:00:00Z"), max: Date.parse("2037-12-31T00:00:00Z") }),
        fc.constantFrom("day" as const, "hour" as const),
        (name, at, unit) => {
          const zone = zoneOf(name)
          const window = windowOf(at, unit, zone)
          expect(window.start).toBeLessThanOrEqual(at)
          expect(window.end).toBeGreaterThan(at)
          expect(windowOf(window.start, unit, zone)).toEqual(window)
          expect(windowOf(window.end, unit, zone).start).toBe(window.end)
        }
      ),
      { numRuns: 3_000 }
    )
  })
})

const input = (change: Partial<RawInput> = {}): RawInput => ({ source: "state-change", payload: {}, ...change })
const memory = (config: GatewayConfigInput, respond?: Respond) =>
  gateway(config, respond).pipe(Layer.provideMerge(StoreMemory.layer))
/** Budget for so many runs of 100 tokens a day. */
const budgetFor = (runs: number): GatewayConfigInput => ({
  policies: { dailyTokenBudget: runs * 100, maxActionsPerHour: "unlimited" }
})
const decisions = (count: number, change: Partial<RawInput> = {}) =>
  Effect.flatMap(GatewayService, (gw) =>
    Effect.forEach(Array.from({ length: count }), () =>
      Effect.tap(
        Effect.map(gw.submit(input(change)), ({ decision, eventId }) => ({ decision, eventId })),
        ({ decision, eventId }) => (decision === "execute" ? gw.outcome(eventId) : Effect.void)
      ).pipe(Effect.map(({ decision }) => decision))
    )
  )

describe("N29: daily and hourly windows never rolled over: here they do", () => {
  it.scoped("at midnight the day's tokens are there again", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      expect(yield* decisions(3)).toEqual(["execute", "execute", "skip"])
      yield* TestClock.adjust("23 hours")
      expect(yield* decisions(1)).toEqual(["skip"])
      yield* TestClock.adjust("1 hour")
      expect((yield* gw.status()).budget).toEqual({
        limit: 200,
        used: 0,
        reserved: 0,
        resetsAt: new Date("1970-01-03T00:00:00Z")
      })
      expect(yield* decisions(3)).toEqual(["execute", "execute", "skip"])
    }).pipe(Effect.provide(memory(budgetFor(2))))
  )

  it.scoped("at the full hour the hour's actions are there again, and what waited runs", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      yield* TestClock.adjust("40 minutes")
      expect(yield* decisions(4)).toEqual(["execute", "execute", "queue", "queue"])
      expect((yield* gw.status()).rate).toEqual({ limit: 2, count: 2, resetsAt: new Date("1970-01-01T01:00:00Z") })
      yield* TestClock.adjust("20 minutes")
      yield* told.until("ProactiveActionCompleted", 4)
      expect((yield* gw.status()).rate).toMatchObject({ count: 2 })
      yield* TestClock.adjust("1 hour")
      expect((yield* gw.status()).rate).toMatchObject({ count: 0 })
    }).pipe(Effect.provide(memory({ policies: { maxActionsPerHour: 2 } })))
  )

  for (const [what, zone, from, midnight] of [
    ["in a zone, not at UTC's midnight", "Asia/Tokyo", "2024-06-03T12:00:00Z", "2024-06-03T15:00:00Z"],
    ["on the 23 hours of a spring day", "Europe/Berlin", "2024-03-30T23:30:00Z", "2024-03-31T22:00:00Z"],
    ["on the 25 hours of an autumn day", "Europe/Berlin", "2024-10-26T22:30:00Z", "2024-10-27T23:00:00Z"],
    ["on the 25 hours of an autumn day", "America/New_York", "2024-11-03T04:30:00Z", "2024-11-04T05:00:00Z"]
  ] as const) {
    it.scoped(`${what} (${zone})`, () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(Date.parse(from))
        yield* Effect.gen(function* () {
          expect(yield* decisions(2)).toEqual(["execute", "skip"])
          yield* TestClock.setTime(Date.parse(midnight) - 1)
          expect(yield* decisions(1)).toEqual(["skip"])
          yield* TestClock.setTime(Date.parse(midnight))
          expect(yield* decisions(2)).toEqual(["execute", "skip"])
        }).pipe(Effect.provide(memory({ ...budgetFor(1), timezone: zone })))
      })
    )
  }

  it.scoped("a run that goes on past midnight counts in the day it was decided in", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* TestClock.adjust("23 hours")
        const { eventId } = yield* gw.submit(input())
        expect((yield* gw.status()).budget).toMatchObject({ used: 0, reserved: 100 })
        yield* TestClock.adjust("1 hour")
        expect((yield* gw.status()).budget).toMatchObject({ used: 0, reserved: 0 })
        yield* Deferred.succeed(gate, undefined)
        yield* gw.outcome(eventId)
        expect((yield* gw.status()).budget).toMatchObject({ used: 0, reserved: 0 })
      }).pipe(
        Effect.provide(
          memory({ limits: { runTimeoutMs: 86_400_000 } }, () => Effect.as(Deferred.await(gate), answerOf("done")))
        )
      )
    })
  )

  it.scoped("a clock that is set back does not hand out a second budget", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse("2024-06-03T00:10:00Z"))
      yield* Effect.gen(function* () {
        expect(yield* decisions(2)).toEqual(["execute", "skip"])
        yield* TestClock.setTime(Date.parse("2024-06-02T23:50:00Z"))
        expect(yield* decisions(1)).toEqual(["skip"])
        yield* TestClock.setTime(Date.parse("2024-06-03T00:20:00Z"))
        expect(yield* decisions(1)).toEqual(["skip"])
      }).pipe(Effect.provide(memory(budgetFor(1))))
    })
  )
})

describe("N3: metered at completion: here reserved before, settled after", () => {
  it.scoped("what runs hold is held from others until they have ended, and what they used stays", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const receipts = yield* Effect.forEach(Array.from({ length: 8 }), () => gw.submit(input()), {
          concurrency: "unbounded"
        })
        expect(receipts.filter(({ decision }) => decision === "execute")).toHaveLength(5)
        expect((yield* gw.status()).budget).toMatchObject({ used: 0, reserved: 500 })
        yield* Deferred.succeed(gate, undefined)
        yield* Effect.forEach(receipts, ({ eventId }) => gw.outcome(eventId))
        // Each used 60 of the 100 it might have: there is room for two more.
        expect((yield* gw.status()).budget).toMatchObject({ used: 300, reserved: 0 })
        expect(yield* decisions(3)).toEqual(["execute", "execute", "skip"])
      }).pipe(
        Effect.provide(
          memory(budgetFor(5), () =>
            Effect.as(Deferred.await(gate), {
              text: "ok",
              usage: { inputTokens: 40, outputTokens: 20 },
              model: "scripted"
            })
          )
        )
      )
    })
  )

  it.scoped("a run that fails frees what it held, but for what the provider charged all the same", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const failed = yield* gw.submit(input({ payload: "fails" }))
      expect(yield* gw.outcome(failed.eventId)).toMatchObject({ run: { state: "failed", error: "refused" } })
      expect((yield* gw.status()).budget).toMatchObject({ used: 0, reserved: 0 })
      const charged = yield* gw.submit(input({ payload: "is charged" }))
      expect(yield* gw.outcome(charged.eventId)).toMatchObject({ run: { state: "failed", inputTokens: 30 } })
      expect((yield* gw.status()).budget).toMatchObject({ used: 30, reserved: 0 })
      const dies = yield* gw.submit(input({ payload: "dies" }))
      expect(yield* gw.outcome(dies.eventId)).toMatchObject({ run: { state: "failed", error: "bug" } })
      expect((yield* gw.status()).budget).toMatchObject({ used: 30, reserved: 0 })
    }).pipe(
      Effect.provide(
        memory({}, ({ event }) => {
          if (event.payload === "dies") return Effect.die(new Error("bug"))
          const usage = event.payload === "fails" ? {} : { usage: { inputTokens: 30, outputTokens: 0 } }
          return Effect.fail(new AgentRunError({ message: "refused", retryable: false, ...usage }))
        })
      )
    )
  )

  it.scoped("between the attempts of a run its tokens stay held", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      const { eventId } = yield* gw.submit(input())
      yield* told.until("ProactiveActionInitiated", 1)
      for (const [attempt, delay] of [
        [2, 1_000],
        [3, 2_000]
      ] as const) {
        expect((yield* gw.status()).budget).toMatchObject({ used: 0, reserved: 100 })
        yield* TestClock.adjust(delay)
        yield* told.until("ProactiveActionInitiated", attempt)
      }
      expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 3 } })
      expect((yield* gw.status()).budget).toMatchObject({ used: 100, reserved: 0 })
      expect((yield* gw.status()).rate).toMatchObject({ count: 1 })
      expect((yield* gw.status()).stats.totalTokensUsed).toBe(100)
    }).pipe(
      Effect.provide(
        memory({}, ({ attempt }) =>
          attempt < 3
            ? Effect.fail(new AgentRunError({ message: "overloaded", retryable: true }))
            : Effect.succeed(answerOf("ok"))
        )
      )
    )
  )

  it.scoped("a run that used more than it held is counted in full", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      expect(yield* decisions(2)).toEqual(["execute", "skip"])
      expect((yield* gw.status()).budget).toMatchObject({ used: 5_000, reserved: 0 })
    }).pipe(
      Effect.provide(
        memory(budgetFor(2), () =>
          Effect.succeed({ text: "", usage: { inputTokens: 4_000, outputTokens: 1_000 }, model: "greedy" })
        )
      )
    )
  )

  it.scoped("a runner that returns nonsense fails the run, is charged what was held, and stops nothing else", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const usage = { inputTokens: 1, outputTokens: 1 }
      const nonsense: ReadonlyArray<unknown> = [
        undefined,
        { text: "ok", model: "m" },
        { text: "ok", model: "m", usage: { inputTokens: Number.NaN, outputTokens: 1 } },
        { text: "ok", model: "m", usage: { inputTokens: -5, outputTokens: 1 } },
        { text: "ok", model: "m", usage: { inputTokens: 1 } },
        { model: "m", usage },
        { text: "ok", usage }
      ]
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        for (const n of nonsense.keys()) {
          const { eventId } = yield* gw.submit(input({ payload: n, source: "channel", sender: "ada", sessionKey: "s" }))
          const { run } = yield* gw.outcome(eventId)
          expect(run).toMatchObject({ state: "failed", error: expect.stringContaining("usage that can be recorded") })
          expect((yield* gw.status()).budget).toMatchObject({ used: (n + 1) * 100, reserved: 0 })
        }
        const fine = yield* gw.submit(input({ payload: "fine" }))
        expect(yield* gw.outcome(fine.eventId)).toMatchObject({ run: { state: "completed" } })
      }).pipe(
        Effect.provide(
          gatewayOn(file, { accessControl: { allowedSenders: ["ada"] }, policies: patient }, ({ event }) =>
            typeof event.payload === "number"
              ? Effect.succeed(nonsense[event.payload] as ReturnType<typeof answerOf>)
              : Effect.succeed(answerOf("ok"))
          )
        )
      )
    })
  )
})

const patient = { circuitBreaker: { maxFailures: "unlimited" } } as const

describe("the ledger after a restart", () => {
  it.scoped("equals the one before, with runs that ended, failed, wait and were cut off", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = { limits: { maxConcurrentRuns: 2 } }
      const respond: Respond = ({ event }) =>
        event.payload === "hangs"
          ? Effect.never
          : event.payload === "fails"
            ? Effect.fail(
                new AgentRunError({ message: "no", retryable: false, usage: { inputTokens: 7, outputTokens: 0 } })
              )
            : Effect.succeed(answerOf("ok"))
      const facts = Effect.map(
        Effect.flatMap(GatewayService, (gw) => gw.status()),
        ({ budget, rate }) => ({ budget, rate })
      )
      const before = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        for (const payload of ["ok", "fails", "ok"]) yield* gw.outcome((yield* gw.submit(input({ payload }))).eventId)
        for (let i = 0; i < 4; i++) yield* gw.submit(input({ payload: "hangs" }))
        yield* told.until("ProactiveActionInitiated", 5)
        return yield* facts
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, config, respond)))
      expect(before).toMatchObject({ budget: { used: 207, reserved: 400 }, rate: { count: 7 } })
      expect(yield* facts.pipe(Effect.provide(gatewayOn(file, config, respond)))).toEqual(before)
    })
  )

  it.scoped("counts more runs of one instant than fit on a page, each once", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = {
        policies: { dailyTokenBudget: "unlimited", maxActionsPerHour: "unlimited" },
        limits: { maxConcurrentRuns: 1_000 }
      }
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const receipts = yield* Effect.forEach(Array.from({ length: 1_300 }), () => gw.submit(input()), {
          concurrency: "unbounded"
        })
        yield* Effect.forEach(receipts, ({ eventId }) => gw.outcome(eventId), { concurrency: "unbounded" })
        expect(new Set((yield* (yield* Store).find("runs", {})).map((run) => run.created_at))).toEqual(new Set([0]))
      }).pipe(Effect.provide(gatewayOn(file, config)))
      const status = yield* Effect.flatMap(GatewayService, (gw) => gw.status()).pipe(
        Effect.provide(gatewayOn(file, config))
      )
      expect(status.budget).toMatchObject({ used: 130_000, reserved: 0 })
      expect(status.rate.count).toBe(1_300)
    })
  )

  it.scoped("begins anew in a new day", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      expect(yield* decisions(2).pipe(Effect.provide(gatewayOn(file, budgetFor(1))))).toEqual(["execute", "skip"])
      expect(yield* decisions(1).pipe(Effect.provide(gatewayOn(file, budgetFor(1))))).toEqual(["skip"])
      yield* TestClock.adjust("1 day")
      expect(yield* decisions(2).pipe(Effect.provide(gatewayOn(file, budgetFor(1))))).toEqual(["execute", "skip"])
    })
  )
})

describe("what the budget tells and lets pass", () => {
  it.scoped("BudgetExhausted is told once a day", () =>
    Effect.gen(function* () {
      const told = yield* watch
      yield* decisions(6)
      expect(told.all("BudgetExhausted")).toEqual([
        {
          _tag: "BudgetExhausted",
          at: 0,
          budget: expect.objectContaining({ scope: "*", unit: "tokens", window: "day", limit: 200, used: 200 }),
          tokensUsed: 200,
          dailyBudget: 200
        }
      ])
      yield* TestClock.adjust("1 day")
      yield* decisions(6)
      expect(told.all("BudgetExhausted")).toHaveLength(2)
      expect(told.all("ProactiveActionSuppressed")).toHaveLength(8)
    }).pipe(Effect.provide(memory(budgetFor(2))))
  )

  it.scoped("critical events pass over the budget and the rate, and are counted in both", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      expect(yield* decisions(3, { priority: "critical" })).toEqual(["execute", "execute", "execute"])
      const { budget, rate } = yield* gw.status()
      expect(budget).toMatchObject({ limit: 100, used: 300 })
      expect(rate).toMatchObject({ limit: 1, count: 3 })
      expect(yield* decisions(1)).toEqual(["skip"])
    }).pipe(Effect.provide(memory({ policies: { dailyTokenBudget: 100, maxActionsPerHour: 1 } })))
  )

  it.scoped("`unlimited` is unlimited, and must be written out", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      expect(new Set(yield* decisions(50))).toEqual(new Set(["execute"]))
      const { budget, rate } = yield* gw.status()
      expect(budget).toMatchObject({ limit: null, used: 5_000 })
      expect(rate).toMatchObject({ limit: null, count: 50 })
    }).pipe(Effect.provide(memory({ policies: { dailyTokenBudget: "unlimited", maxActionsPerHour: "unlimited" } })))
  )

  it.scoped("a budget of 0 lets nothing through", () =>
    Effect.gen(function* () {
      expect(yield* decisions(2)).toEqual(["skip", "skip"])
    }).pipe(Effect.provide(memory({ policies: { dailyTokenBudget: 0 } })))
  )

  it.scoped("N1: an empty configuration burned 2 M tokens a day: here it has a budget and a rate", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const { budget, rate } = yield* gw.status()
      expect([budget.limit, rate.limit]).toEqual([100_000, 30])
      expect((yield* decisions(40)).filter((decision) => decision === "execute")).toHaveLength(30)
    }).pipe(Effect.provide(memory({})))
  )
})
