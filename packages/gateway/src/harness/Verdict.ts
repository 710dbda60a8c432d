import { Effect } from "effect"
import { fits } from "../domain/Budget.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { EventState } from "../domain/GatewayEvent.ts"
import type { Judgement } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import type { Alarm } from "../internal/Alarm.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { typeOf } from "../records/EventCodec.ts"
import * as Evidence from "../records/Evidence.ts"
import type { Tx } from "../records/Journal.ts"
import type { ApprovalRow, EventRow } from "../records/Tables.ts"
import { Dispatcher } from "../runs/Dispatcher.ts"
import type { Dispatch } from "../runs/RunItem.ts"
import type { Abandoned } from "../runs/RunSteps.ts"
import type { Approvals } from "./Approvals.ts"
import { describeMerged, summaryLine } from "./Describe.ts"
import type { HeartbeatHistory } from "./HeartbeatHistory.ts"
import { type Hold, type Holds, RECHECK_AFTER } from "./Holds.ts"
import { PolicyEngine } from "./PolicyEngine.ts"

/** An event under judgement, and where it stands in the records. */
export interface Case
  extends Pick<Hold, "event" | "agentId" | "payloadText" | "members" | "mergeKey" | "approval" | "abandoned"> {
  /** The row to insert, for an event that is not in the records yet. */
  readonly row: EventRow | undefined
  readonly held: Hold | undefined
}

/** Makes judgements so. Plain code within a journal step. */
export const make = (
  config: GatewayConfig,
  holds: Holds,
  approvals: Approvals,
  heartbeats: HeartbeatHistory,
  alarm: Pick<Alarm, "set" | "clear">
) =>
  Effect.gen(function* () {
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger
    const dispatcher = yield* Dispatcher
    const engine = yield* PolicyEngine

    const taskOf = (subject: Case, task: string): string =>
      subject.abandoned?.task ??
      (subject.mergeKey !== undefined && subject.members.length > 1
        ? describeMerged(
            subject.mergeKey,
            subject.members.map(({ line }) => line)
          )
        : task)
    const toDispatch = (subject: Case, task: string): Dispatch => {
      const { agentId, approval, event, payloadText } = subject
      return { agentId, event, payloadText, taskDescription: taskOf(subject, task), approved: approval?.digest }
    }

    const record = (tx: Tx, { event, row }: Case, set: Partial<EventRow>): void => {
      if (row !== undefined) tx.write({ op: "insert", table: "events", row: Object.assign(row, set) })
      else tx.write({ op: "update", table: "events", key: { id: event.id }, set })
    }
    const hold = (subject: Case, change: Pick<Hold, "kind" | "dueAt" | "onChange"> & Partial<Hold>): void => {
      const { abandoned, agentId, approval, event, members, mergeKey, payloadText } = subject
      holds.set({ event, agentId, payloadText, members, mergeKey, approval, abandoned, ...change })
      if (change.dueAt !== undefined) alarm.set(event.id, change.dueAt)
    }
    const letGo = (id: string): void => {
      holds.remove(id)
      alarm.clear(id)
    }

    /**
     * Makes a judgement so: the event's next state, the audit record, and what follows, in one step. `task` is what a person
     * is asked to approve, where the decision is to ask one.
     */
    const apply = (tx: Tx, subject: Case, state: PolicyState, judged: Judgement, task: () => string): void => {
      const { decision, passed, policy } = judged
      const { agentId, event, held } = subject
      const { now } = tx
      const reason = decision.action === "execute" || decision.action === "merge" ? undefined : decision.reason
      // A time that has passed is none: judged again at once, the event would only be queued again.
      const due = decision.action === "queue" ? decision.until?.getTime() : undefined
      const until = due !== undefined && due > now ? due : undefined
      if (decision.action === "queue" && held?.kind === "queued") {
        if (until === (held.onChange ? undefined : held.dueAt)) {
          hold(subject, { kind: "queued", dueAt: until ?? now + RECHECK_AFTER, onChange: until === undefined })
          return
        }
      }
      const seq = audit.append(tx, {
        kind: "event.decided",
        eventId: event.id,
        data: {
          action: decision.action,
          agentId,
          causedBy: event.causedBy,
          policy,
          priority: event.priority,
          reason,
          source: event.source
        }
      })
      const evidence = Evidence.encode(judged, state)
      /** What the event's row says of the decision; of one that is held, or was, `decisions` keeps it besides. */
      const decided = (
        state: EventState,
        final: boolean,
        due_at: number | null = null,
        merge_key: string | null = null
      ) => {
        const { action } = decision
        const why = reason ?? null
        const held = !final || subject.row === undefined
        if (held) {
          const row = { seq, event_id: event.id, at: now, action, policy, reason: why, evidence, due_at, merge_key }
          tx.write({ op: "insert", table: "decisions", row })
        }
        const set: { -readonly [C in keyof EventRow]?: EventRow[C] } = {
          state,
          action,
          policy,
          reason: why,
          evidence,
          due_at,
          decided_at: now,
          held: held ? 1 : 0
        }
        if (subject.row !== undefined) set.accepted_seq = seq
        // A leader's stays with it.
        if (merge_key !== null) set.merge_key = merge_key
        return set
      }
      tx.publish({
        _tag: "PolicyDecisionMade",
        at: now,
        eventId: event.id,
        agentId,
        source: event.source,
        type: typeOf(event),
        decision: decision.action,
        policy,
        reason,
        passed
      })
      const { shadows } = judged
      if (shadows !== undefined) tx.onCommit(() => engine.countShadows(decision.action, shadows))
      if (event.source === "heartbeat") heartbeats.ticked(agentId, event.id, decision)
      if (held?.kind === "merging" && subject.mergeKey !== undefined) {
        const eventIds = subject.members.map(({ id }) => id)
        const { mergeKey } = subject
        const { source } = event
        const count = eventIds.length
        tx.publish({ _tag: "EventsMerged", at: now, eventId: event.id, agentId, source, mergeKey, count, eventIds })
      }
      switch (decision.action) {
        case "execute": {
          letGo(event.id)
          const runId = dispatcher.dispatch(tx, toDispatch(subject, decision.taskDescription))
          record(tx, subject, { ...decided("executed", true), run_id: runId })
          if (subject.approval !== undefined) approvals.consume(tx, subject.approval, runId)
          break
        }
        case "skip":
          letGo(event.id)
          record(tx, subject, decided("suppressed", true))
          suppressed(tx, subject, policy, decision.reason)
          if (policy === "CostBudget") {
            ledger.tellExhausted(
              tx,
              state.budgets.filter((budget) => !fits(budget))
            )
          }
          break
        case "queue": {
          record(tx, subject, decided("deferred", false, until))
          hold(subject, { kind: "queued", dueAt: until ?? now + RECHECK_AFTER, onChange: until === undefined })
          break
        }
        case "merge": {
          const { mergeKey } = decision
          const leader = holds.window(agentId, mergeKey, event.replyTo)
          const member = { id: event.id, line: summaryLine(event) }
          if (leader === undefined) {
            const dueAt = now + (decision.windowMs ?? config.policies.mergeWindowMs)
            record(tx, subject, decided("merging", false, dueAt, mergeKey))
            hold(subject, { kind: "merging", dueAt, onChange: false, mergeKey, members: [member] })
          } else {
            letGo(event.id)
            record(tx, subject, { ...decided("merged", true, null, mergeKey), merged_into: leader.event.id })
            leader.members.push(member)
          }
          break
        }
        case "escalate":
          ask(
            tx,
            subject,
            { policy, reason: decision.reason },
            toDispatch(subject, task()),
            decided("awaiting-approval", false)
          )
      }
    }
    /** Has the event wait for a person. */
    const ask = (
      tx: Tx,
      subject: Case,
      why: Pick<ApprovalRow, "policy" | "reason">,
      dispatch: Dispatch,
      set: Partial<EventRow>
    ): ApprovalRow => {
      const approval = approvals.request(tx, subject, why, dispatch)
      record(tx, subject, set)
      hold(subject, { kind: "approval", dueAt: approval.expires_at, onChange: false, approval })
      return approval
    }
    /** A run came to nothing: a person says whether its event has another. */
    const escalate = (
      tx: Tx,
      { agentId, event, payloadText, reason, runId, taskDescription: task }: Abandoned,
      policy = "onCrash"
    ): void => {
      const subject: Case = {
        event,
        agentId,
        payloadText,
        members: [],
        mergeKey: undefined,
        // Whatever was approved before was used for the run that was abandoned.
        approval: undefined,
        abandoned: { runId, task },
        row: undefined,
        held: undefined
      }
      const { digest, id } = ask(tx, subject, { policy, reason }, toDispatch(subject, task), {
        state: "awaiting-approval"
      })
      audit.append(tx, { kind: "run.escalated", eventId: event.id, data: { runId, approvalId: id, digest, reason } })
    }
    const suppressed = (tx: Tx, { agentId, event }: Case, policy: string, reason: string): void => {
      const base = { at: tx.now, eventId: event.id, agentId }
      tx.publish({ _tag: "ProactiveActionSuppressed", ...base, source: event.source, policy, reason })
      if (event.source !== "heartbeat") return
      const { consecutiveSkips } = heartbeats.of(agentId)
      tx.publish({ _tag: "HeartbeatSkipped", ...base, reason, consecutiveSkips })
    }

    return { apply, escalate, hold, letGo, record, suppressed, toDispatch }
  })

export type Verdict = Effect.Effect.Success<ReturnType<typeof make>>
