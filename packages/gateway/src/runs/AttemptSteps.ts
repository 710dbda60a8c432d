import { Effect, Exit } from "effect"
import type { AgentRunError } from "../domain/Errors.ts"
import type { RunResult, Worker } from "../domain/Run.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal } from "../records/Journal.ts"
import { AgentRunner } from "./AgentRunner.ts"
import { KillSwitch } from "./KillSwitch.ts"
import { messageOf, plus, type RunExit, usageOf } from "./RunExit.ts"
import type { RunItem } from "./RunItem.ts"

/** An attempt under way: its number, and when it began, Unix milliseconds. */
export interface Attempt {
  readonly attempt: number
  readonly startedAt: number
}

/** How long an attempt is taken to be alive after it last showed that it is. Milliseconds. */
export const LEASE = 60_000

/**
 * What is recorded of attempts, each a step of the journal. An attempt is counted before it is dispatched, and has its run for
 * as long as its lease goes on. Its row is changed under its number alone: what an earlier attempt still comes to changes nothing.
 */
export const make = Effect.gen(function* () {
  const journal = yield* Journal
  const audit = yield* AuditLog
  const killSwitch = yield* KillSwitch
  const runner = yield* AgentRunner

  /**
   * Begins the next attempt; `undefined`, and nothing is recorded, when the run has ended before its turn came, the kill
   * switch holds it back by now, or its runner can have none.
   */
  const start = (item: RunItem) =>
    journal.step((tx): Attempt | undefined => {
      if (item.gone) return undefined
      const { agentId, event, runId, taskDescription } = item
      if (killSwitch.mode(agentId) !== "running" || runner.capacity?.(agentId) === 0) return undefined
      // Counted before it is dispatched: a run that brings the process down does not get endless attempts.
      const attempt = item.attempt + 1
      tx.write({
        op: "update",
        table: "runs",
        key: { id: runId, attempt: item.attempt },
        set: { state: "running", attempt, lease_until: tx.now + LEASE, worker: null, started_at: tx.now }
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
      return { attempt, startedAt: tx.now }
    })

  /** A program outside is to have the attempt. */
  const assign = ({ agentId, event, runId }: RunItem, { attempt }: Attempt, worker: Worker) =>
    journal.step((tx) => {
      tx.write({
        op: "update",
        table: "runs",
        key: { id: runId, attempt, state: "running" },
        set: { worker: JSON.stringify(worker) }
      })
      const { client, principal } = worker
      const data = { runId, attempt, agentId, by: principal, client }
      audit.append(tx, { kind: "run.assigned", eventId: event.id, data })
    })

  /** The attempt is alive: its lease goes on. */
  const extend = ({ runId }: RunItem, { attempt }: Attempt) =>
    journal.step((tx) => {
      tx.write({
        op: "update",
        table: "runs",
        key: { id: runId, attempt, state: "running" },
        set: { lease_until: tx.now + LEASE }
      })
    })

  /** The attempt has ended, and is to be followed by another: the run is charged for both. */
  const retry = (item: RunItem, { attempt }: Attempt, exit: Exit.Failure<RunResult, AgentRunError>, delayMs: number) =>
    journal.step((tx) => {
      const { event, runId } = item
      const error = messageOf(exit.cause)
      const used = usageOf(exit)
      const spent = plus(item.spent, used)
      tx.write({
        op: "update",
        table: "runs",
        key: { id: runId, attempt },
        set: {
          state: "pending",
          lease_until: null,
          input_tokens: spent.inputTokens,
          output_tokens: spent.outputTokens,
          error
        }
      })
      audit.append(tx, { kind: "run.retrying", eventId: event.id, data: { runId, attempt, error, delayMs, ...used } })
      tx.onCommit(() => {
        item.spent = spent
      })
    })

  /** An attempt that was let go of has ended after all. That is recorded, and is all that comes of it. */
  const fenced = ({ event, runId }: RunItem, { attempt }: Attempt, exit: RunExit) =>
    journal.step((tx) => {
      const outcome = Exit.isSuccess(exit) ? "completed" : Exit.isInterrupted(exit) ? "interrupted" : "failed"
      const data = { runId, attempt, outcome }
      audit.append(tx, { kind: "run.fenced", eventId: event.id, data })
    })

  return { assign, extend, fenced, retry, start }
})
