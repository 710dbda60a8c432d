import { Cause, Effect, Exit, Option } from "effect"
import type { Amount } from "../domain/Budget.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { AgentRunError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { RunResult, Usage, Worker } from "../domain/Run.ts"
import { AgentHealth } from "../records/AgentHealth.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { type NewTurn, SessionStore } from "../records/SessionStore.ts"
import type { RunRow } from "../records/Tables.ts"
import { AgentRunner } from "./AgentRunner.ts"
import type { RunExit } from "./Attempt.ts"
import { make as makeCharge } from "./Charge.ts"
import { KillSwitch } from "./KillSwitch.ts"
import type { Waiting } from "./Lanes.ts"
import { Outbox } from "./Outbox.ts"

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

/** A run that waits for its turn, or is under way. */
export interface RunItem extends Dispatch, Waiting {
  readonly runId: string
  /** Attempts made so far. The number of the last one fences off what earlier ones come to. */
  attempt: number
  /** What those of them used that were to be followed by another. */
  spent: Usage
  /** What it is asked: what it takes over of others is added. */
  taskDescription: string
  /** It has ended before its turn came. */
  gone: boolean
  /** Why it was interrupted, when it is not to be tried again. */
  stopped: "terminated" | "superseded" | "aborted" | undefined
  /** Who had it aborted. */
  abortedBy: string | undefined
}

/** A run that was given up: a person is to say what becomes of its event. */
export interface Abandoned extends Dispatch {
  readonly runId: string
  /** What the person is told. */
  readonly reason: string
}

/** An attempt under way: its number, and when it began, Unix milliseconds. */
export interface Attempt {
  readonly attempt: number
  readonly startedAt: number
}

/** Of a run's row, what giving it up needs. */
type AbandonedRow = Pick<
  RunRow,
  "id" | "event_id" | "agent_id" | "source" | "attempt" | "started_at" | "input_tokens" | "output_tokens"
>

/** How long an attempt is taken to be alive after it last showed that it is. Milliseconds. */
export const LEASE = 60_000

/** A run of a session that interrupts: the newest message has the next one. */
export const SUPERSEDED = "interrupted by a newer message of its session (sessions.whenBusy)"

/** A run that somebody ended. */
export const abortedBy = (by: string): string => `aborted by ${by}`

const messageOf = (cause: Cause.Cause<AgentRunError>): string => {
  if (Cause.isInterruptedOnly(cause)) return "terminated by the kill switch"
  const failure = Cause.squash(cause)
  return failure instanceof Error ? failure.message : String(failure)
}

export const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0 }
const NO_ANSWER = "The agent could not answer this. Whoever runs it can see why."

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0
const isUsage = (usage: Usage): boolean => isCount(usage?.inputTokens) && isCount(usage?.outputTokens)
/** What an attempt is charged: what it used, also where it failed. */
const usageOf = (exit: RunExit): Usage => {
  const usage = Exit.isSuccess(exit) ? exit.value.usage : Option.getOrUndefined(Cause.failureOption(exit.cause))?.usage
  return usage !== undefined && isUsage(usage) ? usage : NO_USAGE
}
const plus = (one: Usage, other: Usage): Usage => ({
  inputTokens: one.inputTokens + other.inputTokens,
  outputTokens: one.outputTokens + other.outputTokens
})

/** Whether what a runner returned can be recorded: what cannot would be tried to be written for ever. */
export const isResult = (result: RunResult): boolean =>
  typeof result?.text === "string" && typeof result.model === "string" && isUsage(result.usage)

/** The session whose history the run is shown and adds to. A heartbeat has none: its context is the same at every tick. */
export const sessionOf = ({ accessControl }: GatewayConfig, { event }: Dispatch): string | undefined =>
  accessControl.mode === "chat" && event.source !== "heartbeat" ? event.sessionKey : undefined

/** What a run was asked, as the history of its session has it. */
export const userTurn = ({ event, taskDescription }: RunItem): NewTurn => ({
  role: "user",
  content: taskDescription,
  sender: event.sender,
  eventId: event.id
})

/** What is recorded of runs: each a step of the journal, with its audit record, its place in the ledger and what is told. */
export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger
    const health = yield* AgentHealth
    const sessions = yield* SessionStore
    const outbox = yield* Outbox
    const killSwitch = yield* KillSwitch
    const charge = yield* makeCharge(config)
    const runner = yield* AgentRunner

    /**
     * What the run has to say goes out, whatever the model did or did not do about it. Who waits for an answer is also told
     * that there is none, but not why: that may be nobody's business where the answer goes.
     */
    const reply = (tx: Tx, event: GatewayEvent, agentId: string, runId: string, text: string | undefined): void => {
      if (text === undefined) outbox.prepare(tx, { event, agentId, runId, outcome: "failed", text: NO_ANSWER })
      else if (text.trim() !== "") outbox.prepare(tx, { event, agentId, runId, outcome: "completed", text })
    }

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
    const retry = (
      item: RunItem,
      { attempt }: Attempt,
      exit: Exit.Failure<RunResult, AgentRunError>,
      delayMs: number
    ) =>
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

    /** The run is given up. `charged`: what its last attempt may still use. `also` runs in the same step. */
    const abandon = (run: AbandonedRow, error: string, charged: number, also: (tx: Tx) => void) =>
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
        also(tx)
      })
    return { abandon, assign, end, extend, fenced, record, reply, retry, start }
  })
