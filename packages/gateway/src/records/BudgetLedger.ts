import { Clock, Context, DateTime, Effect, Layer } from "effect"
import type { Amount, Budget, Estimate } from "../domain/Budget.ts"
import { parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { ENDED } from "../domain/Run.ts"
import { AuditLog } from "./AuditLog.ts"
import { Journal, type Tx } from "./Journal.ts"
import { type DueNotice, Ledger, type Overshoot } from "./Ledger.ts"
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
   * it used more than was held for it, if it did.
   */
  readonly settle: (tx: Tx, runId: string, amount: Amount) => Overshoot | undefined
  /** Tells that an event did not fit into these, of each once in a window. */
  readonly tellExhausted: (tx: Tx, refused: ReadonlyArray<Budget>) => void
  /** From when on runs count in a window that is under way at `now`: their records are needed. */
  readonly countsFrom: (now: number) => number
}

/**
 * Reserve, then settle: what runs may use and have used. A run counts in the hour, day and month it was decided in, so that
 * the ledger always equals the sum of the recorded runs.
 */
export class BudgetLedger extends Context.Tag("@postilion/gateway/BudgetLedger")<BudgetLedger, BudgetLedgerShape>() {}

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const zone = parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0)
    let ledger = new Ledger(config, zone)

    const load = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const [newest] = yield* store.find("runs", { orderBy: ["created_at", "desc"], limit: 1 })
      if (newest !== undefined && newest.created_at > now) {
        const at = new Date(newest.created_at).toISOString()
        yield* Effect.logWarning(
          `the newest run is of ${at}; until the clock has caught up, budgets count from then on`
        )
      }
      // With the budgets as they are now.
      ledger = new Ledger(config, zone)
      // A clock that was set back, and a restart, do not hand out a second budget either.
      ledger.reset(Math.max(now, newest?.created_at ?? now))
      for (const told of yield* store.find("budget_notices", {})) ledger.wasTold(told)
      const open = yield* store.find("runs", {
        columns: ["id", "agent_id", "reserved_tokens", "reserved_usd", "created_at"],
        where: { state: { in: ["pending", "running"] } }
      })
      for (const run of open) {
        ledger.hold(run.id, run.agent_id, { tokens: run.reserved_tokens, usd: run.reserved_usd }, run.created_at)
      }
      for (const window of ledger.windows) {
        const ended = { created_at: { gte: ledger.startOf(window) }, state: { in: ENDED } }
        const used = yield* store.totals("runs", {
          where: ended,
          by: ["agent_id"],
          sum: ["input_tokens", "output_tokens", "cost_usd"],
          limit: Number.MAX_SAFE_INTEGER
        })
        for (const { key, sums } of used) {
          const tokens = sums.input_tokens.total + sums.output_tokens.total
          ledger.addUsed(window, key.agent_id, { tokens, usd: sums.cost_usd.total })
        }
        if (!ledger.hasMoney) continue
        // As when they were settled: what a run cost is all that was held for it, where it is not known.
        const unknown = yield* store.totals("runs", {
          where: { ...ended, cost_usd: null },
          by: ["agent_id"],
          sum: ["reserved_usd"],
          limit: Number.MAX_SAFE_INTEGER
        })
        for (const { key, sums } of unknown) {
          ledger.addUsed(window, key.agent_id, { tokens: 0, usd: sums.reserved_usd.total })
        }
      }
      const [actions] = yield* store.totals("runs", {
        where: { created_at: { gte: ledger.startOf("hour") } },
        by: [],
        sum: [],
        limit: 1
      })
      ledger.addActions(actions?.rows ?? 0)
    })
    yield* journal.register(load)

    /** Kept, so that a restart does not tell it again. */
    const tell = (tx: Tx, { budget, notice, since, stands }: DueNotice): void => {
      tx.write({ op: "put", table: "budget_notices", row: { budget, notice, since } })
      const { estimate, limit, reserved, scope, unit, used, window } = stands
      const data = { scope, unit, window, limit, used, reserved, estimate, resetsAt: stands.resetsAt.toISOString() }
      audit.append(tx, { kind: `budget.${notice}`, data })
    }

    const warn = (tx: Tx): void => {
      for (const notice of ledger.takeWarnings()) {
        tell(tx, notice)
        tx.publish({ _tag: "BudgetWarning", at: tx.now, budget: notice.stands })
      }
    }

    return BudgetLedger.of({
      get hasMoney() {
        return ledger.hasMoney
      },
      budget: (now) => ledger.budget(now),
      budgets: (now, agentId, estimate) => ledger.budgets(now, agentId, estimate),
      rate: (now) => ledger.rate(now),
      countsFrom: (now) => {
        ledger.roll(now)
        return Math.min(...ledger.windows.map((window) => ledger.startOf(window)))
      },
      reserve: (tx, runId, amount) => {
        const at = ledger.reserve(runId, amount, tx.now)
        warn(tx)
        return at
      },
      settle: (tx, runId, amount) => {
        const overshoot = ledger.settle(runId, amount, tx.now)
        warn(tx)
        return overshoot
      },
      tellExhausted: (tx, refused) => {
        for (const notice of ledger.takeExhausted(refused)) {
          tell(tx, notice)
          const day = ledger.budget(tx.now)
          const tokensUsed = day.used + day.reserved
          tx.publish({ _tag: "BudgetExhausted", at: tx.now, budget: notice.stands, tokensUsed, dailyBudget: day.limit })
        }
      }
    })
  })

export const layer = (config: GatewayConfig): Layer.Layer<BudgetLedger, StoreError, Store | Journal | AuditLog> =>
  Layer.scoped(BudgetLedger, make(config))
