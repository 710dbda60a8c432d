import { describe, expect, it } from "@effect/vitest"
import { AuditLog, type GatewayConfigInput, GatewayService, Store } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import type { RunResult } from "@postilion/gateway/domain/Run"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Effect, Layer, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, watch } from "./TestGateway.ts"

const input = (change: Partial<RawInput> = {}): RawInput => ({ source: "state-change", payload: {}, ...change })
const memory = (config: GatewayConfigInput, respond?: Respond) =>
  gateway(config, respond).pipe(Layer.provideMerge(StoreMemory.layer))

/** Every run may use, and uses, 100 tokens: a tenth of a dollar. */
const prices = { scripted: { inputPerMillion: 1_000, outputPerMillion: 1_000 } }
const unlimited = { dailyTokenBudget: "unlimited", maxActionsPerHour: "unlimited" } as const

/** Hands one in, waits for its run, and says what was decided and why. */
const decided = (change: Partial<RawInput> = {}) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    const { decision, eventId } = yield* gw.submit(input(change))
    if (decision === "execute") yield* gw.outcome(eventId)
    return yield* gw.find(eventId)
  })
const decisions = (count: number, change: Partial<RawInput> = {}) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.map(decided(change), (record) => record?.decision))
/** What every budget comes to, by name. */
const stands = Effect.map(
  Effect.flatMap(GatewayService, (gw) => gw.budget()),
  ({ budgets }) =>
    Object.fromEntries(
      budgets.map(({ reserved, scope, unit, used, window }) => [`${scope} ${unit} ${window}`, [used, reserved]])
    )
)
const audited = (kind: "budget.warning" | "budget.exhausted") =>
  Effect.map(
    Effect.flatMap(AuditLog, (audit) => audit.query({ kind })),
    (records) => records.map(({ data }) => data)
  )

describe("budgets of agents and of all", () => {
  it.scoped("an agent has what its own budget leaves, within what all have; the reason names which is used up", () =>
    Effect.gen(function* () {
      expect(yield* decisions(2, { agentId: "ops" })).toEqual(["execute", "execute"])
      expect(yield* decided({ agentId: "ops" })).toMatchObject({
        policy: "CostBudget",
        reason: 'daily token budget of agent "ops": 200 used of 250, this one may need 100',
        evidence: {
          state: {
            budget: { limit: null, used: 200 },
            budgets: [
              { scope: "*", unit: "tokens", window: "day", limit: null, used: 200 },
              { scope: "*", unit: "usd", window: "hour", limit: 0.35, used: 0.2, reserved: 0, estimate: 0.1 },
              { scope: "ops", unit: "tokens", window: "day", limit: 250, used: 200, estimate: 100 }
            ]
          }
        }
      })
      expect(yield* decided({ agentId: "chat" })).toMatchObject({ decision: "execute", run: { costUsd: 0.1 } })
      expect(yield* decided({ agentId: "chat" })).toMatchObject({
        reason: "hourly dollar budget: $0.30 used of $0.35, this one may need $0.10"
      })
      expect(yield* stands).toEqual({ "* tokens day": [300, 0], "* usd hour": [0.3, 0], "ops tokens day": [200, 0] })
    }).pipe(
      Effect.provide(
        memory({
          agents: { ops: { budget: { tokensPerDay: 250 } }, chat: {} },
          policies: { ...unlimited, budget: { usdPerHour: 0.35 } },
          prices
        })
      )
    )
  )

  it.scoped("critical events pass over every budget, and are counted in all", () =>
    Effect.gen(function* () {
      expect(yield* decisions(2, { priority: "critical" })).toEqual(["execute", "execute"])
      expect(yield* stands).toEqual({ "* tokens day": [200, 0], "* usd month": [0.2, 0] })
      expect(yield* decisions(1)).toEqual(["skip"])
    }).pipe(Effect.provide(memory({ policies: { ...unlimited, budget: { usdPerMonth: 0 } }, prices })))
  )

  for (const [zone, key, from, resetsAt] of [
    ["Europe/Berlin", "tokensPerHour", "2024-03-31T00:30:00Z", "2024-03-31T01:00:00Z"],
    ["Europe/Berlin", "tokensPerHour", "2024-10-27T00:30:00Z", "2024-10-27T01:00:00Z"],
    ["Europe/Berlin", "usdPerDay", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"],
    ["Europe/Berlin", "usdPerDay", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"],
    ["Europe/Berlin", "tokensPerMonth", "2024-03-30T12:00:00Z", "2024-03-31T22:00:00Z"],
    ["Europe/Berlin", "tokensPerMonth", "2024-10-26T12:00:00Z", "2024-10-31T23:00:00Z"],
    ["America/New_York", "usdPerDay", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"],
    ["America/New_York", "usdPerDay", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"],
    ["America/New_York", "usdPerMonth", "2024-02-28T12:00:00Z", "2024-03-01T05:00:00Z"],
    ["America/New_York", "usdPerMonth", "2024-11-30T12:00:00Z", "2024-12-01T05:00:00Z"],
    ["Australia/Lord_Howe", "usdPerDay", "2024-04-06T13:00:00Z", "2024-04-07T13:30:00Z"],
    ["Australia/Lord_Howe", "tokensPerMonth", "2024-10-30T13:30:00Z", "2024-10-31T13:00:00Z"],
    ["UTC", "usdPerMonth", "2025-02-28T12:00:00Z", "2025-03-01T00:00:00Z"]
  ] as const) {
    it.scoped(`N29: ${key} is there again at ${resetsAt}, and not before (${zone}, from ${from})`, () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(Date.parse(from))
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          expect(yield* decisions(2)).toEqual(["execute", "skip"])
          expect((yield* gw.budget()).budgets[1]).toMatchObject({ resetsAt: new Date(resetsAt) })
          yield* TestClock.setTime(Date.parse(resetsAt) - 1)
          expect(yield* decisions(1)).toEqual(["skip"])
          yield* TestClock.setTime(Date.parse(resetsAt))
          expect(yield* decisions(2)).toEqual(["execute", "skip"])
        }).pipe(
          Effect.provide(
            memory({
              timezone: zone,
              agents: { agent: { budget: { [key]: key.startsWith("usd") ? 0.1 : 100 } } },
              policies: unlimited,
              prices
            })
          )
        )
      })
    )
  }
})

describe("what a run costs", () => {
  const budget = { usdPerDay: 1 }

  it.scoped("a model without a price is refused by a budget in dollars, by name", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      expect(yield* decided()).toMatchObject({
        decision: "skip",
        policy: "CostBudget",
        reason:
          'daily dollar budget: what a run of model "scripted" costs is not known; set its price in prices, or policies.unknownModel',
        evidence: { state: { budgets: [{}, { unit: "usd", estimate: 0, unpriced: "scripted" }] } }
      })
      // What it then costs is not known, and is not shown as nothing.
      const { run } = (yield* decided({ priority: "critical" })) ?? {}
      expect(run).toMatchObject({ state: "completed", costUsd: undefined })
      expect((yield* gw.budget()).total).toMatchObject({ runs: 1, costUsd: null, unknownCost: 1 })
    }).pipe(Effect.provide(memory({ policies: { ...unlimited, budget } })))
  )

  it.scoped("`count-as-zero` lets it pass", () =>
    Effect.gen(function* () {
      expect(yield* decisions(20)).toEqual(Array.from({ length: 20 }, () => "execute"))
      expect(yield* stands).toMatchObject({ "* usd day": [0, 0] })
    }).pipe(Effect.provide(memory({ policies: { ...unlimited, budget, unknownModel: "count-as-zero" } })))
  )

  it.scoped("another model that answers, without a price, is charged what was held", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { policies: { ...unlimited, budget: { usdPerDay: 0.25 } }, prices }
      const respond = () => Effect.succeed({ ...answerOf("ok"), model: "other" })
      yield* Effect.gen(function* () {
        expect(yield* decisions(3)).toEqual(["execute", "execute", "skip"])
        expect(yield* stands).toMatchObject({ "* usd day": [0.2, 0] })
      }).pipe(Effect.provide(gatewayOn(file, config, respond)))
      // And a start finds it so.
      yield* Effect.gen(function* () {
        expect(yield* stands).toMatchObject({ "* usd day": [0.2, 0] })
        expect(yield* decisions(1)).toEqual(["skip"])
      }).pipe(Effect.provide(gatewayOn(file, config, respond)))
    })
  )

  it.scoped("what a run cost that was cut off is not known, and what was held for it is charged", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = { policies: { ...unlimited, budget }, prices, limits: { maxAttempts: 1 } }
      const respond: Respond = () => Effect.never
      const eventId = yield* Effect.gen(function* () {
        const told = yield* watch
        const receipt = yield* Effect.flatMap(GatewayService, (gw) => gw.submit(input()))
        yield* told.until("ProactiveActionInitiated", 1)
        return receipt.eventId
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, config, respond)))
      for (const _ of ["the start that abandons it", "another"]) {
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          expect(yield* gw.find(eventId)).toMatchObject({ run: { state: "abandoned", costUsd: undefined } })
          expect(yield* stands).toMatchObject({ "* usd day": [0.1, 0] })
          expect((yield* gw.budget()).total).toMatchObject({ runs: 1, costUsd: null, unknownCost: 1 })
        }).pipe(Effect.provide(gatewayOn(file, config, respond)))
      }
    })
  )

  it.scoped("a run that fails is charged at the price of the model it was of", () =>
    Effect.gen(function* () {
      expect(yield* decided()).toMatchObject({ run: { state: "failed", costUsd: 0.03, model: "scripted" } })
      expect(yield* stands).toMatchObject({ "* usd day": [0.03, 0] })
    }).pipe(
      Effect.provide(
        memory({ policies: { budget }, prices }, () =>
          Effect.fail(
            new AgentRunError({ message: "no", retryable: false, usage: { inputTokens: 30, outputTokens: 0 } })
          )
        )
      )
    )
  )

  it.scoped("a price is in effect from midnight of its day, in the gateway's zone", () =>
    Effect.gen(function* () {
      // Midnight of the 1st of June in Tokyo.
      const midnight = Date.parse("2024-05-31T15:00:00Z")
      const prices = {
        scripted: [
          { from: "2024-06-01", inputPerMillion: 2_000, outputPerMillion: 2_000 },
          { from: "2024-05-01", inputPerMillion: 1_000, outputPerMillion: 1_000 }
        ],
        script: { inputPerMillion: 9, outputPerMillion: 9 }
      }
      const costAt = (at: number) =>
        Effect.zipRight(
          TestClock.setTime(at),
          Effect.provide(
            Effect.map(decided(), (record) => record?.run?.costUsd),
            memory({ timezone: "Asia/Tokyo", prices })
          )
        )
      expect(yield* costAt(Date.parse("2024-04-30T12:00:00Z"))).toBeUndefined()
      expect(yield* costAt(midnight - 1)).toBe(0.1)
      expect(yield* costAt(midnight)).toBe(0.2)
      expect(yield* costAt(midnight + 365 * 86_400_000)).toBe(0.2)
    })
  )
})

describe("what is told of a budget", () => {
  const config: GatewayConfigInput = {
    policies: { dailyTokenBudget: 400, maxActionsPerHour: "unlimited", budget: { usdPerMonth: 0.5 } },
    prices
  }

  it.scoped(
    "little left, and nothing left: each once in a window and budget, also after a restart; both are recorded",
    () =>
      Effect.gen(function* () {
        const file = yield* tempFile
        const told = (runs: number) =>
          Effect.gen(function* () {
            const watched = yield* watch
            yield* decisions(runs)
            const shown = (tag: "BudgetWarning" | "BudgetExhausted") =>
              watched
                .all(tag)
                .map(({ budget: { reserved, unit, used, window } }) => `${tag} ${window} ${unit} ${used + reserved}`)
            return [...shown("BudgetWarning"), ...shown("BudgetExhausted")]
          }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, config)))
        expect(yield* told(2)).toEqual([])
        expect(yield* told(1)).toEqual(["BudgetWarning day tokens 300"])
        expect(yield* told(1)).toEqual(["BudgetWarning month usd 0.4"])
        expect(yield* told(3)).toEqual(["BudgetExhausted day tokens 400"])
        expect(yield* told(3)).toEqual([])
        yield* TestClock.adjust("1 day")
        expect(yield* told(3)).toEqual(["BudgetExhausted month usd 0.5"])
        expect(yield* told(3)).toEqual([])
        yield* TestClock.adjust("30 days")
        expect(yield* told(5)).toEqual([
          "BudgetWarning day tokens 300",
          "BudgetWarning month usd 0.4",
          "BudgetExhausted day tokens 400"
        ])
        yield* Effect.gen(function* () {
          expect(yield* audited("budget.warning")).toMatchObject([
            {
              unit: "tokens",
              window: "day",
              limit: 400,
              used: 200,
              reserved: 100,
              resetsAt: "1970-01-02T00:00:00.000Z"
            },
            { unit: "usd", window: "month", limit: 0.5, used: 0.3, resetsAt: "1970-02-01T00:00:00.000Z" },
            { unit: "tokens" },
            { unit: "usd" }
          ])
          expect(yield* audited("budget.exhausted")).toMatchObject([
            { scope: "*", unit: "tokens", used: 400, estimate: 100 },
            { scope: "*", unit: "usd", used: 0.5, estimate: 0.1 },
            { scope: "*", unit: "tokens" }
          ])
          expect(yield* (yield* Store).find("budget_notices", {})).toHaveLength(4)
        }).pipe(Effect.provide(gatewayOn(file, config)))
      })
  )
})

describe("what is told when a run used more than was held for it", () => {
  const told = (limit: number) =>
    Effect.gen(function* () {
      const watched = yield* watch
      yield* decisions(2)
      const warnings = watched.all("BudgetWarning").map(({ budget }) => budget.used)
      return [warnings, watched.all("BudgetExhausted").length]
    }).pipe(
      Effect.scoped,
      Effect.provide(
        memory({ policies: { ...unlimited, dailyTokenBudget: limit } }, () =>
          Effect.succeed({ ...answerOf("more"), usage: { inputTokens: 300, outputTokens: 0 } })
        )
      )
    )

  it.effect("the warning comes with the end of the run", () =>
    Effect.gen(function* () {
      expect(yield* told(1_000)).toEqual([[], 0])
      expect(yield* told(400)).toEqual([[300], 0])
      expect(yield* told(350)).toEqual([[300], 1])
    })
  )
})

describe("what is recorded holds after a restart", () => {
  it.scoped("a clock set back over midnight, and a restart, hand out no second budget", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { policies: { ...unlimited, dailyTokenBudget: 200 } }
      const life = <A, E>(effect: Effect.Effect<A, E, GatewayService>) =>
        Effect.provide(effect, gatewayOn(file, config))
      yield* TestClock.setTime(Date.parse("2024-06-03T00:10:00Z"))
      expect(yield* life(decisions(1))).toEqual(["execute"])
      yield* TestClock.setTime(Date.parse("2024-06-02T23:50:00Z"))
      expect(yield* life(decisions(2))).toEqual(["execute", "skip"])
      // What was decided while the clock was behind counts in the day that was under way, for good.
      expect(yield* life(decisions(1))).toEqual(["skip"])
      yield* TestClock.setTime(Date.parse("2024-06-03T00:20:00Z"))
      expect(yield* life(decisions(1))).toEqual(["skip"])
      yield* TestClock.setTime(Date.parse("2024-06-04T00:00:00Z"))
      expect(yield* life(decisions(1))).toEqual(["execute"])
    })
  )

  it.scoped("runs that count in a month are not pruned in it, whatever retention says", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = {
        policies: { ...unlimited, budget: { tokensPerMonth: 150 } },
        retention: { events: { maxAgeDays: 1, maxCount: 1 } }
      }
      const life = <A, E>(effect: Effect.Effect<A, E, GatewayService | Store>) =>
        Effect.provide(effect, gatewayOn(file, config))
      yield* TestClock.setTime(Date.parse("2024-05-27T12:00:00Z"))
      expect(yield* life(Effect.zipLeft(decisions(2), TestClock.adjust("4 days")))).toEqual(["execute", "skip"])
      expect(yield* life(decisions(1))).toEqual(["skip"])
      const runs = Effect.map(
        Effect.flatMap(Store, (store) => store.find("runs", {})),
        (rows) => rows.length
      )
      expect(yield* life(runs)).toBe(1)
      expect(yield* life(Effect.zipRight(TestClock.adjust("4 days"), Effect.zipRight(decisions(1), runs)))).toBe(1)
    })
  )

  /** What the provider counts of the 100 tokens that were reserved, or how the run fails. */
  const outcomes: ReadonlyArray<Effect.Effect<RunResult, AgentRunError>> = [
    Effect.succeed({ ...answerOf("less"), usage: { inputTokens: 20, outputTokens: 7 } }),
    Effect.succeed({ ...answerOf("more"), usage: { inputTokens: 150, outputTokens: 31 } }),
    Effect.fail(
      new AgentRunError({ message: "charged", retryable: false, usage: { inputTokens: 130, outputTokens: 0 } })
    ),
    Effect.fail(new AgentRunError({ message: "not charged", retryable: false })),
    Effect.die(new Error("a bug")),
    Effect.never
  ]

  it.scoped(
    "N3, N30: 1,000 concurrent submits against a budget for ten, estimates that are wrong, failures and ends in between",
    () =>
      Effect.gen(function* () {
        const file = yield* tempFile
        const limit = 1_000
        const config: GatewayConfigInput = {
          policies: { ...unlimited, dailyTokenBudget: limit, budget: { usdPerDay: 1 } },
          agents: { ops: { budget: { usdPerHour: 0.8 } }, chat: {} },
          prices,
          limits: { maxConcurrentRuns: 1_000, maxUncleanStarts: "unlimited" }
        }
        const respond: Respond = ({ attempt, event }) => {
          const n = Number(event.payload)
          // What hangs was cut off: the next attempt comes to an end.
          return (attempt > 1 ? outcomes[n % 5] : outcomes[n % 6]) ?? Effect.never
        }
        const books = Effect.gen(function* () {
          const runs = yield* (yield* Store).find("runs", {})
          const ended = runs.filter(({ ended_at }) => ended_at !== null)
          const used = (rows: typeof runs) =>
            rows.reduce((sum, { input_tokens, output_tokens }) => sum + input_tokens + output_tokens, 0)
          const held = runs.reduce(
            (sum, { ended_at, reserved_tokens }) => sum + (ended_at === null ? reserved_tokens : 0),
            0
          )
          const dollars = (rows: typeof runs) => used(rows) / 1_000
          const ops = (rows: typeof runs) => rows.filter(({ agent_id }) => agent_id === "ops")
          const open = runs.filter(({ ended_at }) => ended_at === null)
          expect(yield* stands).toEqual({
            "* tokens day": [used(ended), held],
            "* usd day": [dollars(ended), open.length / 10],
            "ops usd hour": [dollars(ops(ended)), ops(open).length / 10]
          })
          // In the order of the books: from the last run that was let through on, only what was under way can have added to it.
          const records = yield* (yield* AuditLog).query({ limit: 10_000 })
          const last = records.findLastIndex(({ data, kind }) => kind === "event.decided" && data.action === "execute")
          let over = 0
          let all = 0
          for (const [i, { data, kind }] of records.entries()) {
            const overshoot = kind === "run.ended" ? (data.overshoot as { tokens: number } | undefined) : undefined
            all += overshoot?.tokens ?? 0
            if (i > last) over += overshoot?.tokens ?? 0
          }
          const overUsed = ended.reduce((sum, run) => sum + Math.max(0, used([run]) - run.reserved_tokens), 0)
          expect(all).toBe(overUsed)
          expect(used(ended) + held).toBeLessThanOrEqual(limit + over)
          return { runs: runs.length, open: open.length, overshoot: all }
        })
        const seen: Array<Effect.Effect.Success<typeof books>> = []
        for (const life of [0, 1, 2, 3]) {
          yield* Effect.gen(function* () {
            const gw = yield* GatewayService
            const receipts = yield* Effect.forEach(
              Array.from({ length: 250 }, (_, i) => life * 250 + i),
              (n) => gw.submit(input({ payload: n, agentId: n % 2 === 0 ? "ops" : "chat" })),
              { concurrency: "unbounded" }
            )
            expect(receipts).toHaveLength(250)
            seen.push(yield* books)
          }).pipe(Effect.provide(gatewayOn(file, config, respond)))
        }
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          for (const { id } of yield* (yield* Store).find("events", { where: { state: "executed" } }))
            yield* gw.outcome(id)
          seen.push(yield* books)
          expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
          expect(yield* (yield* Store).find("events", {})).toHaveLength(1_000)
        }).pipe(Effect.provide(gatewayOn(file, config, respond)))
        expect(seen.some(({ open }) => open > 0)).toBe(true)
        const end = seen.at(-1)
        expect(end).toMatchObject({ open: 0 })
        expect(end?.overshoot).toBeGreaterThan(0)
        expect(end?.runs).toBeGreaterThanOrEqual(10)
      })
  )
})
