import { Effect } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { SessionStore } from "../records/SessionStore.ts"
import { make as makeCharge } from "./Charge.ts"
import { type RunItem, SUPERSEDED, sessionOf, userTurn } from "./RunItem.ts"

/** What is recorded of runs that never have their turn, since others of their session come first, or take them over. */
export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger
    const sessions = yield* SessionStore
    const charge = yield* makeCharge(config)

    /** A run that waits is cancelled, within the step that has a reason to; `by`: who had it so. */
    const drop = (tx: Tx, { agentId, attempt, event, runId, spent }: RunItem, error: string, by?: string): void => {
      const charged = charge(agentId, spent, tx.now)
      tx.write({
        op: "update",
        table: "runs",
        key: { id: runId, attempt },
        set: { state: "cancelled", cost_usd: charged.usd, error, ended_at: tx.now }
      })
      ledger.settle(tx, runId, charged)
      const data = { runId, attempt, state: "cancelled", error, ...(by && { by }) }
      audit.append(tx, { kind: "run.ended", eventId: event.id, data })
      tx.publish({
        _tag: "ProactiveActionCompleted",
        at: tx.now,
        eventId: event.id,
        source: event.source,
        agentId,
        runId,
        success: false,
        tokensUsed: charged.tokens,
        costUsd: charged.usd ?? undefined,
        durationMs: 0,
        text: undefined,
        error
      })
    }
    /** A run that waits is cancelled for a newer message: what it was asked stays in the history. */
    const supersede = (item: RunItem) =>
      journal.step((tx) => {
        if (item.gone) return
        drop(tx, item, SUPERSEDED)
        const session = sessionOf(config, item)
        // What was asked stays in the history, though it is not answered.
        if (session !== undefined) sessions.append(tx, session, item.agentId, [userTurn(item)])
      })
    /** A run takes over what others were for, within a step: it is asked `task` from here on. */
    const merge = (tx: Tx, item: RunItem, others: ReadonlyArray<RunItem>, task: string): void => {
      const { agentId, event, runId } = item
      tx.write({ op: "update", table: "runs", key: { id: runId }, set: { task } })
      for (const { event: other, runId: otherId, spent } of others) {
        const charged = charge(agentId, spent, tx.now)
        tx.write({
          op: "update",
          table: "runs",
          key: { id: otherId },
          set: { state: "merged", cost_usd: charged.usd, ended_at: tx.now }
        })
        tx.write({
          op: "update",
          table: "events",
          key: { id: other.id },
          set: { state: "merged", merged_into: event.id }
        })
        ledger.settle(tx, otherId, charged)
        audit.append(tx, { kind: "run.merged", eventId: other.id, data: { runId: otherId, into: runId } })
      }
      tx.onCommit(() => {
        item.taskDescription = task
      })
      tx.publish({
        _tag: "EventsMerged",
        at: tx.now,
        eventId: event.id,
        agentId,
        source: event.source,
        mergeKey: item.lane,
        count: others.length + 1,
        eventIds: [event.id, ...others.map(({ event }) => event.id)]
      })
    }
    return { drop, merge, supersede }
  })

export type SessionSteps = Effect.Effect.Success<ReturnType<typeof make>>
