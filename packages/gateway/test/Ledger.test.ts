import { describe, expect, it } from "@effect/vitest"
import { type Budget, fits, toNanos } from "@postilion/gateway/domain/Budget"
import { parseZone, windowOf } from "@postilion/gateway/domain/Calendar"
import { Ledger, type LedgerConfig } from "@postilion/gateway/records/Ledger"
import { FastCheck as fc } from "effect"

const zoneOf = (name: string) => {
  const zone = parseZone(name)
  if (zone === undefined) throw new Error(`no zone ${name}`)
  return zone
}
const config = (policies: Partial<LedgerConfig["policies"]>, agents: LedgerConfig["agents"] = {}): LedgerConfig => ({
  agents,
  policies: {
    dailyTokenBudget: "unlimited",
    budget: {},
    budgetWarnAt: 0.75,
    unknownModel: "refuse",
    maxActionsPerHour: "unlimited",
    ...policies
  }
})

/** Both clock changes of three zones, and ends of months. */
const ZONES = [
  ["Europe/Berlin", ["2024-03-31T01:00:00Z", "2024-10-27T01:00:00Z"]],
  ["America/New_York", ["2024-03-10T07:00:00Z", "2024-11-03T06:00:00Z"]],
  ["Australia/Lord_Howe", ["2024-04-06T15:00:00Z", "2024-10-05T15:30:00Z"]]
] as const
const MONTH_ENDS = ["2024-02-29T12:00:00Z", "2024-12-31T12:00:00Z", "2025-02-28T12:00:00Z", "2024-04-30T12:00:00Z"]

const shown = (at: string, zone: string) => {
  const { end, start } = windowOf(Date.parse(at), "month", zoneOf(zone))
  return [start, end].map((instant) => new Date(instant).toISOString().slice(0, 16)).join(" to ")
}

describe("a month of the calendar", () => {
  it("begins at midnight of its first day, in its zone, whatever the clock does in it", () => {
    expect(shown("2024-02-29T23:59:59Z", "UTC")).toBe("2024-02-01T00:00 to 2024-03-01T00:00")
    expect(shown("2025-12-31T23:00:00Z", "Europe/Berlin")).toBe("2025-12-31T23:00 to 2026-01-31T23:00")
    expect(shown("2024-03-15T12:00:00Z", "Europe/Berlin")).toBe("2024-02-29T23:00 to 2024-03-31T22:00")
    expect(shown("2024-10-15T12:00:00Z", "Europe/Berlin")).toBe("2024-09-30T22:00 to 2024-10-31T23:00")
    expect(shown("2024-11-01T03:59:59Z", "America/New_York")).toBe("2024-10-01T04:00 to 2024-11-01T04:00")
    expect(shown("2024-11-01T04:00:00Z", "America/New_York")).toBe("2024-11-01T04:00 to 2024-12-01T05:00")
  })

  it("every instant is in its month, and months follow on each other without a gap, in all zones", () => {
    const zones = Intl.supportedValuesOf("timeZone").filter((name) => parseZone(name) !== undefined)
    fc.assert(
      fc.property(
        fc.constantFrom(...zones),
        fc.integer({ min: Date.parse("1990-01-01T00:00:00Z"), max: Date.parse("2037-12-31T00:00:00Z") }),
        (name, at) => {
          const zone = zoneOf(name)
          const month = windowOf(at, "month", zone)
          expect(month.start).toBeLessThanOrEqual(at)
          expect(month.end).toBeGreaterThan(at)
          expect(windowOf(month.start, "month", zone)).toEqual(month)
          expect(windowOf(month.end, "month", zone).start).toBe(month.end)
          expect(windowOf(month.start, "day", zone).start).toBe(month.start)
        }
      ),
      { numRuns: 2_000 }
    )
  })
})

describe("the ledger", () => {
  const limits = { tokensPerHour: 5_000, tokensPerMonth: 90_000, usdPerHour: 0.5, usdPerDay: 2, usdPerMonth: 20.1 }
  const full = config(
    { dailyTokenBudget: 10_000, budget: limits },
    { ops: { budget: { tokensPerDay: 4_000, usdPerMonth: 3 } }, chat: {} }
  )
  interface Run {
    readonly id: string
    readonly agentId: string
    readonly at: number
    readonly held: { tokens: number; usd: number | null }
    used: { tokens: number; usd: number | null } | undefined
  }
  /** What all budgets come to by the runs, added up one by one. */
  const sumsOf = (runs: ReadonlyArray<Run>, budgets: ReadonlyArray<Budget>, zone: string, latest: number) =>
    budgets.map(({ scope, unit, window }) => {
      const { start } = windowOf(latest, window, zoneOf(zone))
      const counted = runs.filter(({ agentId, at }) => at >= start && (scope === "*" || scope === agentId))
      const sum = (of: (run: Run) => { tokens: number; usd: number | null } | undefined) =>
        counted.reduce((total, run) => {
          const amount = of(run)
          if (amount === undefined) return total
          return total + (unit === "tokens" ? amount.tokens : toNanos(amount.usd ?? run.held.usd ?? 0))
        }, 0)
      const whole = unit === "tokens" ? 1 : 1e9
      return {
        used: sum(({ used }) => used) / whole,
        reserved: sum((run) => (run.used === undefined ? run.held : undefined)) / whole
      }
    })
  /** What a start finds in the records. */
  const loaded = (runs: ReadonlyArray<Run>, zone: string, now: number): Ledger => {
    const ledger = new Ledger(full, zoneOf(zone))
    ledger.reset(Math.max(now, ...runs.map(({ at }) => at)))
    for (const { agentId, at, held, id, used } of runs) {
      if (used === undefined) ledger.hold(id, agentId, held, at)
      else {
        for (const window of ledger.windows) {
          if (at >= ledger.startOf(window)) {
            ledger.addUsed(window, agentId, { tokens: used.tokens, usd: used.usd ?? held.usd })
          }
        }
      }
      if (at >= ledger.startOf("hour")) ledger.addActions(1)
    }
    return ledger
  }

  const usd = fc.option(
    fc.integer({ min: 0, max: 300_000_000 }).map((nanos) => nanos / 1e9),
    { nil: null }
  )
  const amount = fc.record({ tokens: fc.integer({ min: 0, max: 3_000 }), usd })
  const operation = fc.oneof(
    { weight: 4, arbitrary: fc.record({ reserve: fc.constantFrom("ops", "chat", "gone"), amount }) },
    { weight: 4, arbitrary: fc.record({ settle: fc.nat(20), amount }) },
    { weight: 2, arbitrary: fc.record({ move: fc.integer({ min: -90, max: 40 * 60 }) }) },
    { weight: 1, arbitrary: fc.record({ move: fc.integer({ min: -3, max: 40 }).map((days) => days * 1440) }) },
    { weight: 1, arbitrary: fc.constant({ restart: true } as const) }
  )

  for (const [zone, changes] of ZONES) {
    it(`equals the sum of the runs after anything: reservations, ends, clock changes, restarts (${zone})`, () => {
      fc.assert(
        fc.property(
          fc.constantFrom(...changes, ...MONTH_ENDS),
          fc.array(operation, { maxLength: 60 }),
          (from, operations) => {
            const runs: Array<Run> = []
            let now = Date.parse(from)
            let latest = now
            let ledger = loaded(runs, zone, now)
            for (const operation of operations) {
              if ("move" in operation) now += operation.move * 60_000
              else if ("restart" in operation) {
                ledger = loaded(runs, zone, now)
                // What nothing was decided at is not remembered.
                latest = Math.max(now, ...runs.map(({ at }) => at))
              } else if ("reserve" in operation) {
                const id = `run_${runs.length}`
                const at = ledger.reserve(id, { agentId: operation.reserve, ...operation.amount }, now)
                expect(at).toBe(Math.max(now, latest))
                runs.push({ id, agentId: operation.reserve, at, held: operation.amount, used: undefined })
              } else {
                const open = runs.filter(({ used }) => used === undefined)
                const run = open[operation.settle % Math.max(1, open.length)]
                if (run === undefined) continue
                const over = ledger.settle(run.id, operation.amount, now)
                const { tokens } = operation.amount
                expect(over?.tokens ?? 0).toBe(Math.max(0, tokens - run.held.tokens))
                run.used = operation.amount
              }
              latest = Math.max(latest, now)
              const budgets = ledger.budgets(now)
              expect(budgets).toHaveLength(8)
              expect(budgets.map(({ reserved, used }) => ({ used, reserved }))).toEqual(
                sumsOf(runs, budgets, zone, latest)
              )
              const hour = windowOf(latest, "hour", zoneOf(zone)).start
              expect(ledger.rate(now).count).toBe(runs.filter(({ at }) => at >= hour).length)
            }
          }
        ),
        { numRuns: 150 }
      )
    })
  }

  it("money comes out the same in every order, and fits to the last billionth", () => {
    const ledger = new Ledger(config({ budget: { usdPerDay: 0.3 } }), zoneOf("UTC"))
    const estimate = { tokens: 0, usd: 0.1, model: "m" }
    const day = () => ledger.budgets(0, "a", estimate)[1] as Budget
    for (const id of ["a", "b", "c"]) {
      expect(fits(day())).toBe(true)
      ledger.reserve(id, { agentId: "a", ...estimate }, 0)
    }
    expect(day()).toMatchObject({ used: 0, reserved: 0.3 })
    expect(fits(day())).toBe(false)
    for (const id of ["b", "a", "c"]) ledger.settle(id, { tokens: 0, usd: 0.1 }, 0)
    expect(day()).toMatchObject({ used: 0.3, reserved: 0 })
    expect(fits({ ...day(), estimate: 0 })).toBe(true)
  })

  it("a model without a price fits into no budget in dollars, and into all with `count-as-zero`", () => {
    const of = (unknownModel: "refuse" | "count-as-zero") =>
      new Ledger(config({ budget: { usdPerDay: 1 }, unknownModel }), zoneOf("UTC"))
        .budgets(0, "a", { tokens: 5, usd: null, model: "new-model" })
        .map((budget) => [budget.unit, fits(budget), budget.unpriced])
    expect(of("refuse")).toEqual([
      ["tokens", true, undefined],
      ["usd", false, "new-model"]
    ])
    expect(of("count-as-zero")).toEqual([
      ["tokens", true, undefined],
      ["usd", true, undefined]
    ])
  })

  it("the windows that have ended hold nothing of it, also when a run of theirs ends later", () => {
    const at = Date.parse("2024-05-31T23:30:00Z")
    const ledger = new Ledger(full, zoneOf("UTC"))
    ledger.reserve("r", { agentId: "ops", tokens: 100, usd: 0.1 }, at)
    const stand = (now: number) => ledger.budgets(now).map(({ reserved, used }) => used + reserved)
    expect(stand(at)).toEqual([100, 100, 100, 0.1, 0.1, 0.1, 100, 0.1])
    const june = Date.parse("2024-06-01T00:00:00Z")
    expect(stand(june - 1)).toEqual([100, 100, 100, 0.1, 0.1, 0.1, 100, 0.1])
    expect(stand(june)).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
    ledger.settle("r", { tokens: 200, usd: 0.2 }, june)
    expect(stand(june)).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
  })
})
