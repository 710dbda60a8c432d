import { Effect, Exit, type Scope } from "effect"
import type { Amount } from "../domain/Budget.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { AgentHealth } from "../records/AgentHealth.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { SessionStore } from "../records/SessionStore.ts"
import type { RunRow } from "../records/Tables.ts"
import type { Attempt } from "./AttemptSteps.ts"
import { make as makeCharge } from "./Charge.ts"
import { Outbox } from "./Outbox.ts"
import { messageOf, plus, type RunExit, usageOf } from "./RunExit.ts"
import { abortedBy, type Dispatch, type RunItem, SUPERSEDED, sessionOf, userTurn } from "./RunItem.ts"

/** A run that was given up: a person is to say what becomes of its event. */
export interface Abandoned extends Dispatch {
  readonly runId: string
  /** What the person is told. */
  readonly reason: string
}

/** Of a run's row, what giving it up needs. */
type AbandonedRow = Pick<
  RunRow,
  "id" | "event_id" | "agent_id" | "source" | "attempt" | "started_at" | "input_tokens" | "output_tokens"
>

/** What a person can say of a run that was abandoned. */
const ASK = "approve to try it again, deny to drop it"
const NO_ANSWER = "The agent could not answer this. Whoever runs it can see why."

/** What is recorded of a run as it is decided and as it ends, with its place in the ledger and what is told of it. */
export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger
    const health = yield* AgentHealth
    const sessions = yield* SessionStore
    const outbox = yield* Outbox
    const charge = yield* makeCharge(config)
    const listeners = new Set<(tx: Tx, abandoned: Abandoned) => void>()

    /** A run is decided: what it may use is reserved. */
    const record = (tx: Tx, runId: string, dispatch: Dispatch, { tokens, usd }: Amount): void => {
      const { agentId, event, taskDescription } = dispatch
      const countsAt = ledger.reserve(tx, runId, { agentId, tokens, usd })
      tx.write({
        op: "insert",
        table: "runs",
        row: {
          id: runId,
          event_id: event.id,
          agent_id: agentId,
          source: event.source,
          session_key: event.sessionKey ?? null,
          state: "pending",
          attempt: 0,
          lease_until: null,
          worker: null,
          task: taskDescription,
          reserved_tokens: tokens,
          reserved_usd: usd,
          input_tokens: 0,
          output_tokens: 0,
          cost_usd: null,
          model: null,
          text: null,
          error: null,
          created_at: countsAt,
          started_at: null,
          ended_at: null
        }
      })
      health.began(tx, agentId)
    }

    /**
     * What the run has to say goes out, whatever the model did or did not do about it. Who waits for an answer is also told
     * that there is none, but not why: that may be nobody's business where the answer goes.
     */
    const reply = (tx: Tx, event: GatewayEvent, agentId: string, runId: string, text: string | undefined): void => {
      if (text === undefined) outbox.prepare(tx, { event, agentId, runId, outcome: "failed", text: NO_ANSWER })
      else if (text.trim() !== "") outbox.prepare(tx, { event, agentId, runId, outcome: "completed", text })
    }

    const end = (item: RunItem, { attempt, startedAt }: Attempt, exit: RunExit) =>
      journal.step((tx) => {
        const { agentId, event, runId } = item
        const result = Exit.isSuccess(exit) ? exit.value : undefined
        const state = result !== undefined ? "completed" : Exit.isInterrupted(exit) ? "cancelled" : "failed"
        const superseded = state === "cancelled" && item.stopped === "superseded"
        const by = state === "cancelled" ? item.abortedBy : undefined
        const failure = Exit.isFailure(exit) ? messageOf(exit.cause) : null
        const error = superseded ? SUPERSEDED : by === undefined ? failure : abortedBy(by)
        const usage = plus(item.spent, usageOf(exit))
        const { inputTokens, outputTokens } = usage
        const charged = charge(agentId, usage, tx.now, result?.model)
        const { model, usd: costUsd } = charged
        tx.write({
          op: "update",
          table: "runs",
          key: { id: runId, attempt },
          set: {
            state,
            lease_until: null,
            input_tokens: inputTokens,
            output_tokens: outputTokens,
            cost_usd: costUsd,
            model,
            text: result?.text ?? null,
            error,
            ended_at: tx.now
          }
        })
        const overshoot = ledger.settle(tx, runId, charged)
        health.ended(tx, agentId, state)
        const session = sessionOf(config, item)
        if (session !== undefined && result !== undefined) {
          sessions.append(tx, session, agentId, [
            userTurn(item),
            { role: "assistant", content: result.text, eventId: event.id }
          ])
        } else if (session !== undefined && superseded) sessions.append(tx, session, agentId, [userTurn(item)])
        audit.append(tx, {
          kind: "run.ended",
          eventId: event.id,
          data: {
            runId,
            attempt,
            state,
            inputTokens,
            outputTokens,
            costUsd,
            model,
            error,
            overshoot,
            ...(by && { by })
          }
        })
        if (state !== "cancelled" || by !== undefined) reply(tx, event, agentId, runId, result?.text)
        tx.publish({
          _tag: "ProactiveActionCompleted",
          at: tx.now,
          eventId: event.id,
          source: event.source,
          agentId,
          runId,
          success: result !== undefined,
          tokensUsed: inputTokens + outputTokens,
          costUsd: costUsd ?? undefined,
          durationMs: tx.now - startedAt,
          text: result?.text,
          error: error ?? undefined,
          sessionKey: result !== undefined || superseded ? session : undefined,
          causedBy: event.causedBy
        })
      })

    /**
     * The run is given up. `charged`: what its last attempt may still use. `asked`: what a person is asked about, and why; none
     * where its event is gone.
     */
    const abandon = (
      run: AbandonedRow,
      error: string,
      charged: number,
      asked: { readonly dispatch: Dispatch; readonly why: string } | undefined
    ) =>
      journal.step((tx) => {
        const inputTokens = run.input_tokens + charged
        const tokens = inputTokens + run.output_tokens
        // Nobody knows what it came to cost, unless it never began.
        const costUsd = run.attempt === 0 ? 0 : null
        tx.write({
          op: "update",
          table: "runs",
          key: { id: run.id, attempt: run.attempt },
          set: {
            state: "abandoned",
            lease_until: null,
            input_tokens: inputTokens,
            cost_usd: costUsd,
            error,
            ended_at: tx.now
          }
        })
        ledger.settle(tx, run.id, { tokens, usd: costUsd })
        const data = {
          runId: run.id,
          attempt: run.attempt,
          state: "abandoned",
          inputTokens,
          outputTokens: run.output_tokens,
          error
        }
        audit.append(tx, { kind: "run.ended", eventId: run.event_id, data })
        tx.publish({
          _tag: "ProactiveActionCompleted",
          at: tx.now,
          eventId: run.event_id,
          source: run.source,
          agentId: run.agent_id,
          runId: run.id,
          success: false,
          tokensUsed: tokens,
          costUsd: undefined,
          durationMs: tx.now - (run.started_at ?? tx.now),
          text: undefined,
          error
        })
        if (asked === undefined) return
        const { dispatch, why } = asked
        reply(tx, dispatch.event, run.agent_id, run.id, undefined)
        const abandoned = { ...dispatch, runId: run.id, reason: `run ${run.id} ${why}; ${ASK}` }
        for (const listener of listeners) listener(tx, abandoned)
      })
    /** Calls `listener` in the step that abandons a run, until the scope closes. */
    const onAbandoned = (listener: (tx: Tx, abandoned: Abandoned) => void): Effect.Effect<void, never, Scope.Scope> =>
      Effect.acquireRelease(
        Effect.sync(() => void listeners.add(listener)),
        () => Effect.sync(() => void listeners.delete(listener))
      )
    return { abandon, end, onAbandoned, record, reply }
  })

export type RunSteps = Effect.Effect.Success<ReturnType<typeof make>>
