import { Clock, Context, DateTime, Effect, Layer } from "effect"
import { type CalendarWindow, parseZone, windowOf } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { Journal } from "./Journal.ts"
import { Store, type StoreError } from "./Store.ts"

export interface BudgetLedgerShape {
  /** Today's tokens as of `now` (Unix milliseconds), for an event that may need `estimate`. */
  readonly budget: (now: number, estimate?: number) => PolicyState["budget"]
  /** This hour's actions as of `now`. */
  readonly rate: (now: number) => PolicyState["rate"]
  /** Holds `tokens` for a run, and counts one action. Within the journal step that records the run. */
  readonly reserve: (runId: string, tokens: number, now: number) => void
  /** Replaces a run's reservation by what it used; 0 releases it. Within the step that ends the run. */
  readonly settle: (runId: string, tokens: number, now: number) => void
  /** `true` the first time it is asked in a day: whether the budget's end should be told. */
  readonly tellExhausted: (now: number) => boolean
}

/**
 * Reserve, then settle: what runs may use and have used. A run counts in the day and hour it was decided in, so that the
 * ledger always equals the sum of the recorded runs.
 */
export class BudgetLedger extends Context.Tag("@postilion/gateway/BudgetLedger")<BudgetLedger, BudgetLedgerShape>() {}

const EMPTY: CalendarWindow = { start: Number.NEGATIVE_INFINITY, end: Number.NEGATIVE_INFINITY }
const PAGE = 1_000

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const zone = parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0)
    const { dailyTokenBudget, maxActionsPerHour } = config.policies
    const reservations = new Map<string, { readonly tokens: number; readonly at: number }>()
    let day = EMPTY
    let hour = EMPTY
    let dayEnds = new Date(0)
    let hourEnds = new Date(0)
    let used = 0
    let reserved = 0
    let actions = 0
    /** The day whose end of the budget has been told, by its start. */
    let toldDay = Number.NaN

    // Windows only move forward: a clock set back does not hand out a second budget.
    const roll = (now: number): void => {
      if (now >= day.end) {
        day = windowOf(now, "day", zone)
        dayEnds = new Date(day.end)
        used = 0
        reserved = 0
      }
      if (now >= hour.end) {
        hour = windowOf(now, "hour", zone)
        hourEnds = new Date(hour.end)
        actions = 0
      }
    }

    const load = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      day = EMPTY
      hour = EMPTY
      roll(now)
      reservations.clear()
      const open = yield* store.find("runs", { where: { state: { in: ["pending", "running"] } } })
      for (const run of open) reservations.set(run.id, { tokens: run.reserved_tokens, at: run.created_at })
      let from = { at: Math.min(day.start, hour.start), seen: new Set<string>() }
      while (true) {
        // Pages overlap by one instant, since several runs may share it.
        const rows = yield* store.find("runs", {
          where: { created_at: { gte: from.at } },
          orderBy: ["created_at", "asc"],
          limit: PAGE + from.seen.size
        })
        const fresh = rows.filter((row) => !from.seen.has(row.id))
        if (fresh.length === 0) return
        for (const row of fresh) {
          if (row.created_at >= hour.start) actions += 1
          if (row.created_at < day.start) continue
          if (reservations.has(row.id)) reserved += row.reserved_tokens
          else used += row.input_tokens + row.output_tokens
        }
        const at = (rows.at(-1) ?? { created_at: from.at }).created_at
        from = { at, seen: new Set(rows.filter((row) => row.created_at === at).map((row) => row.id)) }
      }
    })
    yield* journal.register(load)

    return BudgetLedger.of({
      budget: (now, estimate = 0) => {
        roll(now)
        return {
          limit: dailyTokenBudget === "unlimited" ? null : dailyTokenBudget,
          used,
          reserved,
          estimate,
          resetsAt: dayEnds
        }
      },
      rate: (now) => {
        roll(now)
        return {
          limit: maxActionsPerHour === "unlimited" ? null : maxActionsPerHour,
          count: actions,
          resetsAt: hourEnds
        }
      },
      reserve: (runId, tokens, now) => {
        roll(now)
        reservations.set(runId, { tokens, at: Math.max(now, day.start) })
        reserved += tokens
        actions += 1
      },
      settle: (runId, tokens, now) => {
        roll(now)
        const reservation = reservations.get(runId)
        if (reservation === undefined) return
        reservations.delete(runId)
        if (reservation.at < day.start) return
        reserved -= reservation.tokens
        used += tokens
      },
      tellExhausted: (now) => {
        roll(now)
        const tell = toldDay !== day.start
        toldDay = day.start
        return tell
      }
    })
  })

export const layer = (config: GatewayConfig): Layer.Layer<BudgetLedger, StoreError, Store | Journal> =>
  Layer.scoped(BudgetLedger, make(config))
