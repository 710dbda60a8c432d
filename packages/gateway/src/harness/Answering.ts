import { Effect } from "effect"
import { GatewayError } from "../domain/Errors.ts"
import { firstDecision, toProposal } from "../records/EventCodec.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import type { ApprovalRow } from "../records/Tables.ts"
import type { Approvals } from "./Approvals.ts"
import type { Hold, Holds } from "./Holds.ts"
import type { Case, Verdict } from "./Verdict.ts"

/** What a person says to an approval. */
export interface AnswerOptions {
  /** Digest of what the person was shown. Default: that of what the approval shows. */
  readonly digest?: string | undefined
}

export type Answer = (
  approvalId: string,
  answer: "approved" | "denied",
  by: string,
  options?: AnswerOptions
) => Effect.Effect<void, GatewayError>

export interface AnsweringOptions {
  readonly holds: Holds
  readonly approvals: Approvals
  readonly verdict: Verdict
  /** Judges an approved event. */
  readonly decide: (tx: Tx, subject: Case) => unknown
  /** The task an approval would have the agent do; `otherwise` when the policies would not have it run now. */
  readonly taskIfApproved: (subject: Case, now: number, otherwise: string) => string
}

const storage = (cause: StoreError) => new GatewayError({ reason: "storage", message: cause.message, cause })
const conflict = (message: string) => new GatewayError({ reason: "conflict", message })

const decidedBefore = ({ decided_at, decided_by, expires_at, id, state }: ApprovalRow): GatewayError =>
  conflict(
    `approval "${id}" was ${state} by ${decided_by ?? "nobody"} at ${new Date(decided_at ?? expires_at).toISOString()}`
  )

/** Takes answers to approvals: the first that decides counts, and only for what the approval shows. */
export const make = ({ approvals, decide, holds, taskIfApproved, verdict }: AnsweringOptions) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const { hold, letGo, record, suppressed, toDispatch } = verdict

    const end = (tx: Tx, held: Hold, before: ApprovalRow, outcome: "approved" | "denied" | "expired", by: string) => {
      const said = approvals.approversOf(before.id)
      const approval = approvals.close(tx, before, held.agentId, outcome, by)
      const subject: Case = { ...held, approval, row: undefined, held: undefined }
      if (outcome === "approved") {
        decide(tx, subject)
        return
      }
      letGo(held.event.id)
      const late =
        said.length === 0
          ? "nobody answered in time"
          : `only ${said.join(", ")} approved in time, of ${before.approvers} persons`
      const reason = outcome === "expired" ? late : `denied by ${by}`
      record(tx, subject, { state: "denied", reason, due_at: null })
      suppressed(tx, subject, before.policy, reason)
    }
    /** An approval that too few gave in time. */
    const expire = (tx: Tx, held: Hold): void => {
      if (held.approval !== undefined) end(tx, held, held.approval, "expired", "the clock")
    }
    const approve = (
      tx: Tx,
      held: Hold,
      approval: ApprovalRow,
      by: string,
      given?: string
    ): GatewayError | undefined => {
      const subject: Case = { ...held, row: undefined, held }
      const asked = toProposal(approval)
      const dispatch = toDispatch(subject, taskIfApproved(subject, tx.now, asked.task))
      if (approvals.hasChanged(approval, dispatch)) {
        const reason = "what would run has changed since this was asked"
        const anew = approvals.request(tx, held, { policy: approval.policy, reason }, dispatch)
        hold(subject, { kind: "approval", dueAt: anew.expires_at, onChange: false, approval: anew })
        return conflict(`approval "${approval.id}": ${reason}; look at it again, then answer digest ${anew.digest}`)
      }
      if (given !== undefined && given !== approval.digest) {
        return conflict(
          `approval "${approval.id}" is for another digest than the one given; look at it again, then answer digest ${approval.digest}`
        )
      }
      const voters = approvals.vote(tx, approval, by, "approved")
      if (voters.length >= approval.approvers) end(tx, held, approval, "approved", voters.join(", "))
      return undefined
    }
    /** Whether there is nothing to refuse: an answer that is given again by who gave it is none. */
    const late = (approvalId: string, answer: "approved" | "denied", by: string, given?: string) =>
      Effect.gen(function* () {
        const [row] = yield* store.find("approvals", { where: { id: approvalId } })
        if (row === undefined) {
          return new GatewayError({ reason: "not-found", message: `there is no approval "${approvalId}"` })
        }
        const [said] = yield* store.find("votes", { where: { approval_id: approvalId, voter: by } })
        const again = row.state === answer && said?.answer === answer && (given ?? said.digest) === said.digest
        return again ? undefined : decidedBefore(row)
      }).pipe(Effect.mapError(storage))

    /**
     * The only decision on an event so far, whose run was abandoned, goes among those that are kept: another follows. Its row is
     * read before the step, and cannot change until the event is judged again.
     */
    const keepFirst = (held: Hold | undefined) =>
      Effect.map(
        held?.abandoned === undefined
          ? Effect.succeed([])
          : store.find("events", { where: { id: held.event.id, held: 0 } }),
        ([event]) =>
          (tx: Tx): void => {
            const row = event === undefined ? undefined : firstDecision(event)
            if (row === undefined) return
            tx.write({ op: "put", table: "decisions", row })
            tx.write({ op: "update", table: "events", key: { id: row.event_id }, set: { held: 1 } })
          }
      ).pipe(Effect.mapError(storage))

    const answer: Answer = (approvalId, answer, by, { digest } = {}) =>
      Effect.gen(function* () {
        const keep = yield* answer === "approved" ? keepFirst(holds.byApproval(approvalId)) : Effect.succeed(() => {})
        // What is found to have changed is recorded, so the refusal must not take the step back.
        const settled = yield* journal.step((tx): { readonly refusal: GatewayError | undefined } | undefined => {
          const held = holds.byApproval(approvalId)
          if (held?.approval === undefined) return undefined
          if (tx.now >= held.approval.expires_at) {
            // The clock was set on, or the host slept, and the alarm has not looked yet.
            expire(tx, held)
            return undefined
          }
          keep(tx)
          if (answer === "approved") return { refusal: approve(tx, held, held.approval, by, digest) }
          approvals.vote(tx, held.approval, by, "denied")
          end(tx, held, held.approval, "denied", by)
          return { refusal: undefined }
        })
        const refusal = settled === undefined ? yield* late(approvalId, answer, by, digest) : settled.refusal
        if (refusal !== undefined) return yield* refusal
      })

    return { answer, expire }
  })
