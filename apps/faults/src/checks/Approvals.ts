import { createHash } from "node:crypto"
import type { AuditRecord } from "../AuditChain.ts"
import { type Books, type Check, group } from "../Books.ts"
import type { ApprovalRow, VoteRow } from "../Rows.ts"

/** Whether those who decided are those who voted so, and as many as are needed. */
const isCarried = ({ approvers, decided_by, state }: ApprovalRow, votes: ReadonlyArray<VoteRow>): boolean => {
  const yes = votes.filter(({ answer }) => answer === "approved").map(({ voter }) => voter)
  const no = votes.filter(({ answer }) => answer === "denied").map(({ voter }) => voter)
  switch (state) {
    case "approved":
      return no.length === 0 && yes.length === approvers && yes.sort().join() === decided_by?.split(", ").sort().join()
    case "denied":
      return no.length === 1 && no[0] === decided_by && yes.length < approvers
    default:
      return no.length === 0 && yes.length < approvers && decided_by === "the clock"
  }
}

/** Enough said yes, or one no, or nobody in time; to what it shows, and to nothing else. */
const checkAnswers = ({ rows, rules }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const votesOn = group(rows.votes, ({ approval_id }) => approval_id)
  const decided = group(
    records.filter(({ kind }) => kind === "approval.decided"),
    ({ data }) => String(data.approvalId)
  )
  for (const approval of rows.approvals) {
    const { decided_by, digest, event_id, id, proposal, state } = approval
    const answers = (decided.get(id) ?? []).map(({ data }) => `${data.outcome} by ${data.by}`)
    const votes = votesOn.get(id) ?? []
    if (answers.join() !== (state === "pending" ? "" : `${state} by ${decided_by}`)) {
      found.push(`approval ${id} is ${state} by ${decided_by}; recorded: ${answers.join()}`)
    }
    if (approval.approvers !== rules.approvers || !isCarried(approval, votes)) {
      const said = votes.map(({ answer, voter }) => `${voter} ${answer}`).join()
      found.push(`approval ${id} needs ${approval.approvers} and is ${state} by ${decided_by}; votes: ${said}`)
    }
    if (
      createHash("sha256").update(proposal).digest("hex") !== digest ||
      votes.some((vote) => vote.digest !== digest)
    ) {
      found.push(`approval ${id} is for something else than it shows`)
    }
    const shown = JSON.parse(proposal) as { readonly event: { readonly id: string } }
    if (shown.event.id !== event_id) found.push(`approval ${id} of ${event_id} shows ${shown.event.id}`)
  }
  return found
}

/** What needed a person ran on one approval, used once; what was abandoned asked one. */
const checkUse = ({ rows, witness }: Books): ReadonlyArray<string> => {
  const found: Array<string> = []
  const runsOf = group(rows.runs, ({ event_id }) => event_id)
  const called = new Set(witness.calls.map(({ runId }) => runId))
  for (const [eventId, approvals] of group(rows.approvals, ({ event_id }) => event_id)) {
    const runs = runsOf.get(eventId) ?? []
    for (const { consumed_by, id, proposal, run_id, state } of approvals) {
      const used = runs.find((run) => run.id === consumed_by)
      if (consumed_by !== null && (state !== "approved" || used === undefined)) {
        found.push(`approval ${id} is ${state} and was used for ${consumed_by}`)
      }
      const shown = JSON.parse(proposal) as { readonly task: string }
      if (used !== undefined && used.task !== shown.task) found.push(`run ${used.id} is not what ${id} approved`)
      const before = runs.find((run) => run.id === run_id)
      if (run_id !== null && before?.state !== "abandoned") {
        found.push(`approval ${id} is about ${run_id}, which is ${before?.state ?? "not there"}`)
      }
    }
    // By a policy the first run needs one, and whatever policies say, each run after it.
    const needsOne = approvals.some(({ run_id }) => run_id === null)
    for (const [index, { id }] of runs.entries()) {
      const uses = approvals.filter(({ consumed_by }) => consumed_by === id).length
      if (uses === (needsOne || index > 0 ? 1 : 0)) continue
      found.push(`run ${id} of ${eventId} used ${uses} approvals${called.has(id) ? ", and its agent was called" : ""}`)
    }
    if (runs.filter(({ state }) => state === "completed").length > 1) found.push(`${eventId} ran twice`)
  }
  return found
}

/** Everyone was told what came of the answer they gave. */
const checkTold = ({ rows, witness }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const byId = new Map(rows.approvals.map((approval) => [approval.id, approval]))
  const voteOf = new Map(rows.votes.map((vote) => [`${vote.approval_id} ${vote.voter}`, vote.answer]))
  const voted = new Set(
    records.flatMap(({ data, kind }) =>
      kind === "approval.voted" ? [`${data.approvalId} ${data.by} ${data.answer}`] : []
    )
  )
  return witness.verdicts.flatMap(({ approvalId, by, state, status }) => {
    const approval = byId.get(approvalId)
    const counted = voteOf.get(`${approvalId} ${by}`) === state
    const isSo =
      status === 200
        ? voted.has(`${approvalId} ${by} ${state}`) && (state === "approved" || approval?.state === "denied")
        : approval?.state !== state || !counted
    return isSo ? [] : [`approval ${approvalId} is ${approval?.state}; ${by} was answered ${status} to ${state}`]
  })
}

/** Approvals: what was said, what it was used for, what people were told. */
export const checkApprovals: Check = (books, records) => [
  ...checkAnswers(books, records),
  ...checkUse(books),
  ...checkTold(books, records)
]
