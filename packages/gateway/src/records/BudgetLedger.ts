import { Clock, Context, DateTime, Effect, Layer } from "effect"
import type { Amount, Budget, Estimate } from "../domain/Budget.ts"
import { parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { Journal, type Tx } from "./Journal.ts"
import { Ledger } from "./Ledger.ts"
import { Store, type StoreError } from "./Store.ts"

export interface BudgetLedgerShape {
  /** Whether money is counted, so that it matters what a run may cost. */
  readonly hasMoney: boolean
  /** The day's tokens over all agents as of `now`, Unix milliseconds. */
  readonly budget: (now: number) => Budget
  /**
   * All budgets a run of this agent would count in as of `now`, the day's tokens over all agents first; without an agent, all
   * there are. `estimate` is the most the run could use.
   */
  readonly budgets: (now: number, agentId?: string, estimate?: Estimate) => ReadonlyArray<Budget>
  /** This hour's actions as of `now`. */
  readonly rate: (now: number) => PolicyState["rate"]
  /**
   * Holds what a run may use, and counts one action. Within the journal step that records the run. The instant it counts at,
   * which is not before that of any run before it: what its record is to say it was created at.
   */
  readonly reserve: (tx: Tx, runId: string, amount: Amount & { readonly agentId: string }) => number
  /**
   * Replaces a run's reservation by what it used; nothing at all releases it. Within the step that ends the run. By how much
   * it used more than was held for it.
   */
  readonly settle: (tx: Tx, runId: string, amount: Amount) => { readonly tokens: number; readonly usd: number }
  /** Tells that these have nothing left, each once in a window. */
  readonly tellExhausted: (tx: Tx, budgets: ReadonlyArray<Budget>) => void
}

/**
 * Reserve, then settle: what runs may use and have used. A run counts in the hour, day and month it was decided in, so that
 * the ledger always equals the sum of the recorded runs.
 */
export class BudgetLedger extends Context.Tag("@postilion/gateway/BudgetLedger")<BudgetLedger, BudgetLedgerShape>() {}

const PAGE = 1_000

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const ledger = new Ledger(config, parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0))

    const load = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const [newest] = yield* store.find("runs", { orderBy: ["created_at", "desc"], limit: 1 })
      // A clock that was set back, and a restart, do not hand out a second budget either.
      ledger.reset(Math.max(now, newest?.created_at ?? now))
      const open = yield* store.find("runs", { where: { state: { in: ["pending", "running"] } } })
      for (const run of open) {
        ledger.hold(run.id, run.agent_id, { tokens: run.reserved_tokens, usd: run.reserved_usd }, run.created_at)
      }
      const held = new Set(open.map(({ id }) => id))
      let from = { at: Math.min(...ledger.windows.map((window) => ledger.startOf(window))), seen: new Set<string>() }
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
          if (row.created_at >= ledger.startOf("hour")) ledger.addActions(1)
          if (held.has(row.id)) continue
          const used = { tokens: row.input_tokens + row.output_tokens, usd: row.cost_usd ?? row.reserved_usd }
          for (const window of ledger.windows) {
            if (row.created_at >= ledger.startOf(window)) ledger.addUsed(window, row.agent_id, used)
          }
        }
        const at = (rows.at(-1) ?? { created_at: from.at }).created_at
        from = { at, seen: new Set(rows.filter((row) => row.created_at === at).map((row) => row.id)) }
      }
    })
    yield* journal.register(load)

    return BudgetLedger.of({
      hasMoney: ledger.hasMoney,
      budget: (now) => ledger.budget(now),
      budgets: (now, agentId, estimate) => ledger.budgets(now, agentId, estimate),
      rate: (now) => ledger.rate(now),
      reserve: (tx, runId, amount) => {
        const at = ledger.reserve(runId, amount, tx.now)
        for (const budget of ledger.takeWarnings(amount.agentId)) {
          tx.publish({ _tag: "BudgetWarning", at: tx.now, budget })
        }
        return at
      },
      settle: (tx, runId, amount) => ledger.settle(runId, amount, tx.now),
      tellExhausted: (tx, budgets) => {
        for (const budget of budgets) {
          if (!ledger.takeExhausted(budget)) continue
          const day = ledger.budget(tx.now)
          const tokensUsed = day.used + day.reserved
          tx.publish({ _tag: "BudgetExhausted", at: tx.now, budget, tokensUsed, dailyBudget: day.limit })
        }
      }
    })
  })

export const layer = (config: GatewayConfig): Layer.Layer<BudgetLedger, StoreError, Store | Journal> =>
  Layer.scoped(BudgetLedger, make(config))
