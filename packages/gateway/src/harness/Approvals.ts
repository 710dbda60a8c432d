import { Effect } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { makeIds } from "../domain/Ids.ts"
import { canonicalize } from "../domain/Json.ts"
import { digestOf } from "../domain/Proposal.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store } from "../records/Store.ts"
import type { ApprovalRow, VoteRow } from "../records/Tables.ts"
import { Dispatcher } from "../runs/Dispatcher.ts"
import type { Dispatch } from "../runs/RunItem.ts"
import type { Hold } from "./Holds.ts"

const PAGE = 1_000

/** What is recorded of approvals: asked, voted on, used. Plain code within a journal step. */
export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const dispatcher = yield* Dispatcher
    const nextId = makeIds()
    /** Votes on what is pending, by approval and voter. */
    const votes = new Map<string, Map<string, VoteRow>>()
    const votesOn = (id: string): Map<string, VoteRow> => votes.get(id) ?? new Map<string, VoteRow>()

    yield* journal.register(
      Effect.gen(function* () {
        votes.clear()
        const pending = yield* store.find("approvals", { where: { state: "pending" } })
        for (let from = 0; from < pending.length; from += PAGE) {
          const ids = pending.slice(from, from + PAGE).map(({ id }) => id)
          for (const row of yield* store.find("votes", { where: { approval_id: { in: ids } } })) {
            votes.set(row.approval_id, votesOn(row.approval_id).set(row.voter, row))
          }
        }
      })
    )

    /** Whether a run for this would be another than the one that was approved. */
    const hasChanged = (approval: ApprovalRow, dispatch: Dispatch): boolean =>
      approval.digest !== digestOf(dispatcher.propose(dispatch))

    /** Asks a person; anew, without what was said before, where the event has been asked about already. */
    const request = (
      tx: Tx,
      { abandoned, agentId, approval: before, event }: Pick<Hold, "event" | "agentId" | "approval" | "abandoned">,
      { policy, reason }: Pick<ApprovalRow, "policy" | "reason">,
      dispatch: Dispatch
    ): ApprovalRow => {
      const { now } = tx
      const proposal = dispatcher.propose(dispatch)
      const digest = digestOf(proposal)
      const asked: Omit<ApprovalRow, "id" | "event_id"> = {
        run_id: abandoned?.runId ?? null,
        state: "pending",
        policy,
        reason,
        requested_at: now,
        expires_at: now + config.limits.approvalTtlMs,
        decided_at: null,
        decided_by: null,
        proposal: canonicalize(proposal),
        digest,
        approvers: config.policies.approvers,
        consumed_by: null
      }
      const id = before?.id ?? nextId("apr", now)
      const approval: ApprovalRow = { id, event_id: event.id, ...asked }
      if (before === undefined) tx.write({ op: "insert", table: "approvals", row: approval })
      else {
        tx.write({ op: "update", table: "approvals", key: { id }, set: asked })
        tx.write({ op: "delete", table: "votes", where: { approval_id: id } })
        votes.delete(id)
        const data = { approvalId: id, digest, before: before.digest, reason }
        audit.append(tx, { kind: "approval.changed", eventId: event.id, data })
      }
      const { expires_at: expiresAt } = approval
      tx.publish({
        _tag: "ApprovalRequested",
        at: now,
        eventId: event.id,
        agentId,
        approvalId: id,
        runId: abandoned?.runId,
        reason,
        expiresAt
      })
      return approval
    }

    /** Records what one person says; who has approved so far. */
    const vote = (
      tx: Tx,
      { digest, event_id: eventId, id }: ApprovalRow,
      voter: string,
      answer: VoteRow["answer"]
    ): ReadonlyArray<string> => {
      const said = votesOn(id)
      if (said.get(voter)?.answer !== answer) {
        const row: VoteRow = { approval_id: id, voter, answer, digest, at: tx.now }
        votes.set(id, said.set(voter, row))
        tx.write({ op: "put", table: "votes", row })
        audit.append(tx, { kind: "approval.voted", eventId, data: { approvalId: id, answer, by: voter, digest } })
      }
      return [...said.values()].filter((vote) => vote.answer === "approved").map((vote) => vote.voter)
    }

    /** Nothing more is asked. */
    const close = (
      tx: Tx,
      approval: ApprovalRow,
      agentId: string,
      outcome: "approved" | "denied" | "expired",
      by: string
    ): ApprovalRow => {
      const { digest, event_id: eventId, id } = approval
      const set = { state: outcome, decided_at: tx.now, decided_by: by }
      tx.write({ op: "update", table: "approvals", key: { id }, set })
      votes.delete(id)
      audit.append(tx, { kind: "approval.decided", eventId, data: { approvalId: id, outcome, by, digest } })
      tx.publish({ _tag: "ApprovalDecided", at: tx.now, eventId, agentId, approvalId: id, outcome, by })
      return { ...approval, ...set }
    }

    /** It is used, once: for this run. */
    const consume = (tx: Tx, { id }: ApprovalRow, runId: string): void =>
      tx.write({ op: "update", table: "approvals", key: { id }, set: { consumed_by: runId } })

    return { close, consume, hasChanged, request, vote }
  })

export type Approvals = Effect.Effect.Success<ReturnType<typeof make>>
