import { Cause, Effect, Exit, Option } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import type { AgentRunError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { RunResult, Usage } from "../domain/Run.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { SessionStore } from "../records/SessionStore.ts"
import type { RunRow } from "../records/Tables.ts"
import { KillSwitch } from "./KillSwitch.ts"

/** An event that was let through, and the run that is to handle it. */
export interface Dispatch {
  readonly event: GatewayEvent
  readonly agentId: string
  readonly taskDescription: string
  /** The event's payload as JSON. */
  readonly payloadText: string
  /** Digest of the proposal a person approved: the run is called off when it would be another. */
  readonly approved?: string | undefined
}

/** A run under way. */
export interface RunItem extends Dispatch {
  readonly runId: string
  /** Attempts made so far. */
  attempt: number
}

const messageOf = (cause: Cause.Cause<AgentRunError>): string => {
  if (Cause.isInterruptedOnly(cause)) return "terminated by the kill switch"
  const failure = Cause.squash(cause)
  return failure instanceof Error ? failure.message : String(failure)
}

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0
const isUsage = (usage: Usage): boolean => isCount(usage?.inputTokens) && isCount(usage?.outputTokens)
/** Whether what a runner returned can be recorded: what cannot would be tried to be written for ever. */
export const isResult = (result: RunResult): boolean =>
  typeof result?.text === "string" && typeof result.model === "string" && isUsage(result.usage)

/** What is recorded of runs: each a step of the journal, with its audit record, its place in the ledger and what is told. */
export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger
    const sessions = yield* SessionStore
    const killSwitch = yield* KillSwitch
    const { maxAttempts } = config.limits
    const keepsHistory = config.accessControl.mode === "chat"

    /** The session whose history the run is shown and adds to. */
    const sessionOf = ({ event }: Dispatch): string | undefined => (keepsHistory ? event.sessionKey : undefined)

    const prices = Object.entries(config.prices).sort(([a], [b]) => b.length - a.length)
    /** Providers answer with dated names (`model-20250929`) where they were asked for `model`: the longest prefix counts. */
    const priceOf = (model: string) => prices.find(([name]) => model === name || model.startsWith(`${name}-`))?.[1]
    const costOf = (result: RunResult): number | null => {
      const price = priceOf(result.model)
      if (price === undefined) return null
      const { inputTokens, outputTokens } = result.usage
      return (inputTokens * price.inputPerMillion + outputTokens * price.outputPerMillion) / 1_000_000
    }

    /** When the attempt began; `undefined`, and nothing is recorded, when the kill switch holds it back by now. */
    const start = (item: RunItem) =>
      journal.step((tx) => {
        const { agentId, event, runId, taskDescription } = item
        if (killSwitch.mode(agentId) !== "running") return undefined
        // Counted before it is dispatched: a run that brings the process down does not get endless attempts.
        const attempt = item.attempt + 1
        tx.write({
          op: "update",
          table: "runs",
          key: { id: runId },
          set: { state: "running", attempt, started_at: tx.now }
        })
        audit.append(tx, { kind: "run.started", eventId: event.id, data: { runId, attempt, agentId } })
        tx.publish({
          _tag: "ProactiveActionInitiated",
          at: tx.now,
          eventId: event.id,
          source: event.source,
          agentId,
          runId,
          attempt,
          taskDescription
        })
        tx.onCommit(() => {
          item.attempt = attempt
        })
        return tx.now
      })

    const end = (item: RunItem, startedAt: number, exit: Exit.Exit<RunResult, AgentRunError>) =>
      journal.step((tx) => {
        const { agentId, event, runId } = item
        const result = Exit.isSuccess(exit) ? exit.value : undefined
        const state = result !== undefined ? "completed" : Exit.isInterrupted(exit) ? "cancelled" : "failed"
        const error = Exit.isFailure(exit) ? messageOf(exit.cause) : null
        const failure = Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
        const charged = result?.usage ?? Option.getOrUndefined(failure)?.usage
        const { inputTokens, outputTokens } =
          charged !== undefined && isUsage(charged) ? charged : { inputTokens: 0, outputTokens: 0 }
        const costUsd = result === undefined ? null : costOf(result)
        const model = result?.model ?? null
        tx.write({
          op: "update",
          table: "runs",
          key: { id: runId },
          set: {
            state,
            input_tokens: inputTokens,
            output_tokens: outputTokens,
            cost_usd: costUsd,
            model,
            text: result?.text ?? null,
            error,
            ended_at: tx.now
          }
        })
        ledger.settle(runId, inputTokens + outputTokens, tx.now)
        const session = sessionOf(item)
        if (session !== undefined && result !== undefined) {
          sessions.append(tx, session, agentId, [
            { role: "user", content: item.taskDescription, sender: event.sender, eventId: event.id },
            { role: "assistant", content: result.text, eventId: event.id }
          ])
        }
        audit.append(tx, {
          kind: "run.ended",
          eventId: event.id,
          data: { runId, attempt: item.attempt, state, inputTokens, outputTokens, costUsd, model, error }
        })
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
          error: error ?? undefined
        })
      })

    /** A run is decided: its tokens are reserved. */
    const record = (tx: Tx, runId: string, dispatch: Dispatch, reserved: number): void => {
      const { agentId, event, taskDescription } = dispatch
      tx.write({
        op: "insert",
        table: "runs",
        row: {
          id: runId,
          event_id: event.id,
          agent_id: agentId,
          source: event.source,
          state: "pending",
          attempt: 0,
          task: taskDescription,
          reserved_tokens: reserved,
          input_tokens: 0,
          output_tokens: 0,
          cost_usd: null,
          model: null,
          text: null,
          error: null,
          created_at: tx.now,
          started_at: null,
          ended_at: null
        }
      })
      ledger.reserve(runId, reserved, tx.now)
    }

    const abandon = (run: RunRow) =>
      journal.step((tx) => {
        const error = `cut off in its last attempt of ${maxAttempts}`
        tx.write({
          op: "update",
          table: "runs",
          key: { id: run.id },
          set: { state: "abandoned", error, ended_at: tx.now }
        })
        ledger.settle(run.id, 0, tx.now)
        const data = { runId: run.id, attempt: run.attempt, state: "abandoned", error }
        audit.append(tx, { kind: "run.ended", eventId: run.event_id, data })
        tx.publish({
          _tag: "ProactiveActionCompleted",
          at: tx.now,
          eventId: run.event_id,
          source: run.source,
          agentId: run.agent_id,
          runId: run.id,
          success: false,
          tokensUsed: 0,
          costUsd: undefined,
          durationMs: tx.now - (run.started_at ?? tx.now),
          text: undefined,
          error
        })
      })
    return { abandon, end, record, sessionOf, start }
  })
