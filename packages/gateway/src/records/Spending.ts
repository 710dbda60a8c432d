import type { DateTime } from "effect"
import { Effect } from "effect"
import {
  type BudgetRange,
  type BudgetReport,
  fromNanos,
  type NamedSpending,
  type Spending,
  toNanos
} from "../domain/Budget.ts"
import { dayOf, startOfDay, windowOf } from "../domain/Calendar.ts"
import { GatewayError } from "../domain/Errors.ts"
import { ENDED } from "../domain/Run.ts"
import { Store, type StoreError } from "./Store.ts"

const DAY = 86_400_000
/** Days one report may span. */
const MOST_DAYS = 366
/** Agents, sources and models that are told apart within a day, those of most runs: further ones are in the totals alone. */
const MOST_GROUPS = 1_000

const COLUMNS = ["input_tokens", "output_tokens", "cost_usd"] as const
interface Sums {
  readonly rows: number
  readonly sums: { readonly [C in (typeof COLUMNS)[number]]: { readonly total: number; readonly of: number } }
}

class Tally {
  runs = 0
  inputTokens = 0
  outputTokens = 0
  nanos = 0
  known = 0
  add({ rows, sums }: Sums): void {
    this.runs += rows
    this.inputTokens += sums.input_tokens.total
    this.outputTokens += sums.output_tokens.total
    this.nanos += toNanos(sums.cost_usd.total)
    this.known += sums.cost_usd.of
  }
  get spending(): Spending {
    const { inputTokens, known, nanos, outputTokens, runs } = this
    const costUsd = runs > 0 && known === 0 ? null : fromNanos(nanos)
    return {
      runs,
      inputTokens,
      outputTokens,
      costUsd,
      unknownCost: runs - known
    }
  }
}

class Tallies {
  readonly byName = new Map<string, Tally>()
  add(name: string, sums: Sums): void {
    const tally = this.byName.get(name) ?? new Tally()
    this.byName.set(name, tally)
    tally.add(sums)
  }
  get spending(): ReadonlyArray<NamedSpending> {
    const tokens = ({ inputTokens, outputTokens }: Spending) => inputTokens + outputTokens
    const all = [...this.byName].map(([name, tally]) => ({ name, ...tally.spending }))
    return all.sort((a, b) => tokens(b) - tokens(a) || (a.name < b.name ? -1 : 1))
  }
}

const invalid = (message: string) => new GatewayError({ reason: "invalid-input", message })

/**
 * What the runs of a range of days used, added up by the store day by day. Fails with `invalid-input` when the range is none,
 * or spans more than 366 days.
 */
export const report = (
  { from, to }: BudgetRange,
  zone: DateTime.TimeZone,
  now: number
): Effect.Effect<Omit<BudgetReport, "budgets" | "rate">, StoreError | GatewayError, Store> =>
  Effect.gen(function* () {
    const store = yield* Store
    const last = to ?? dayOf(now, zone)
    const first = from ?? `${last.slice(0, 7)}-01`
    const start = startOfDay(first, zone)
    const end = startOfDay(last, zone)
    if (start === undefined || end === undefined) {
      return yield* invalid(`from and to are days, written as 2026-01-31; got "${first}" and "${last}"`)
    }
    if (Math.round((end - start) / DAY) >= MOST_DAYS) {
      return yield* invalid(`a report spans at most ${MOST_DAYS} days; got ${first} to ${last}`)
    }
    if (start > end) return yield* invalid(`from (${first}) comes after to (${last})`)
    const total = new Tally()
    const agents = new Tallies()
    const sources = new Tallies()
    const models = new Tallies()
    const byDay: Array<NamedSpending> = []
    for (let day = windowOf(start, "day", zone); day.start <= end; day = windowOf(day.end, "day", zone)) {
      const where = { created_at: { gte: day.start, lt: day.end }, state: { in: ENDED } }
      const by = ["agent_id", "source", "model"] as const
      const groups = yield* store.totals("runs", { where, by, sum: COLUMNS, limit: MOST_GROUPS })
      if (groups.length === 0) continue
      const all: ReadonlyArray<Sums> =
        groups.length < MOST_GROUPS ? groups : yield* store.totals("runs", { where, by: [], sum: COLUMNS, limit: 1 })
      const tally = new Tally()
      for (const sums of all) {
        tally.add(sums)
        total.add(sums)
      }
      byDay.push({ name: dayOf(day.start, zone), ...tally.spending })
      for (const group of groups) {
        agents.add(group.key.agent_id, group)
        sources.add(group.key.source, group)
        models.add(group.key.model ?? "unknown", group)
      }
    }
    return {
      from: first,
      to: last,
      total: total.spending,
      byAgent: agents.spending,
      bySource: sources.spending,
      byModel: models.spending,
      byDay
    }
  })
