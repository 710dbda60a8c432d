import { Effect } from "effect"
import { Explanation } from "../domain/Explanation.ts"
import type { RoutedBy } from "../domain/Routing.ts"
import { firstDecision, toDelivery, toEvent, toRun, typeOf } from "./EventCodec.ts"
import * as Evidence from "./Evidence.ts"
import type { StoreError, StoreShape } from "./Store.ts"
import type { ApprovalRow, DecisionRow, DeliveryRow, EventRow, RunRow, VoteRow } from "./Tables.ts"

type Parts = ConstructorParameters<typeof Explanation>[0]
type Other = Parts["causes"][number]

/** Causes that are followed up the chain. */
const MOST_CAUSES = 50
const MOST_CONSEQUENCES = 100
const MOST_MEMBERS = 50

const date = (at: number | null): Date | undefined => (at === null ? undefined : new Date(at))

const decisionOf = (row: DecisionRow): Parts["decisions"][number] => {
  const { failed, notAsked, passed, shadows, state } = Evidence.decode(row.evidence)
  const { budget: _, ...saw } = state
  const all = [...passed, ...notAsked]
  // `default` is nobody's answer.
  const decider = row.policy === "default" && !all.includes("default") ? [] : [row.policy]
  return {
    at: new Date(row.at),
    action: row.action,
    policy: row.policy,
    reason: row.reason ?? undefined,
    until: date(row.due_at),
    mergeKey: row.merge_key ?? undefined,
    answers: [
      ...passed.map((policy) => ({ policy, answer: "passed" as const })),
      ...decider.map((policy) => ({ policy, answer: failed ? ("failed" as const) : ("answered" as const) })),
      ...notAsked.map((policy) => ({ policy, answer: "not-asked" as const }))
    ],
    saw,
    shadows
  }
}
const approvalOf = (row: ApprovalRow, votes: ReadonlyArray<VoteRow>): Parts["approvals"][number] => ({
  id: row.id,
  state: row.state,
  runId: row.run_id ?? undefined,
  reason: row.reason,
  requestedAt: new Date(row.requested_at),
  expiresAt: new Date(row.expires_at),
  decidedAt: date(row.decided_at),
  decidedBy: row.decided_by ?? undefined,
  digest: row.digest,
  approvers: row.approvers,
  votes: votes
    .filter(({ approval_id }) => approval_id === row.id)
    .sort((a, b) => a.at - b.at)
    .map(({ answer, at, digest, voter }) => ({ by: voter, answer, digest, at: new Date(at) })),
  consumedBy: row.consumed_by ?? undefined
})
const runOf = (row: RunRow): Parts["runs"][number] => {
  const run = toRun(row)
  return {
    id: run.id,
    state: run.state,
    attempts: run.attempt,
    worker: run.worker,
    model: run.model,
    inputTokens: run.inputTokens,
    outputTokens: run.outputTokens,
    reservedTokens: run.reservedTokens,
    costUsd: run.costUsd,
    decidedAt: run.decidedAt,
    startedAt: run.startedAt,
    endedAt: run.endedAt,
    task: run.task,
    text: run.text,
    error: run.error
  }
}
const deliveryOf = (row: DeliveryRow): Parts["deliveries"][number] => {
  const { attempt, error, id, preparedAt, reference, runId, state, to } = toDelivery(row)
  return { id, runId, to, state, attempts: attempt, reference, error, preparedAt, endedAt: date(row.ended_at) }
}
const otherOf = (row: EventRow, distance: number): Other => ({
  eventId: row.id,
  source: row.source,
  type: typeOf(toEvent(row)),
  state: row.state,
  causedBy: row.caused_by ?? undefined,
  distance
})

/** What led to an event, the nearest first. */
const causesOf = (store: StoreShape, event: EventRow) =>
  Effect.gen(function* () {
    const causes: Array<Other> = []
    let runId = event.caused_by
    while (runId !== null && causes.length < MOST_CAUSES) {
      const [run] = yield* store.find("runs", { where: { id: runId } })
      const [row] = run === undefined ? [] : yield* store.find("events", { where: { id: run.event_id } })
      if (row === undefined) break
      causes.push(otherOf(row, causes.length + 1))
      runId = row.caused_by
    }
    return causes
  })
/** What these runs led to, the nearest first; one more than are listed, where there are more. */
const consequencesOf = (store: StoreShape, runs: ReadonlyArray<RunRow>) =>
  Effect.gen(function* () {
    const found: Array<Other> = []
    let causes: ReadonlyArray<string> = runs.map(({ id }) => id)
    for (let distance = 1; causes.length > 0 && found.length <= MOST_CONSEQUENCES; distance++) {
      const limit = MOST_CONSEQUENCES + 1 - found.length
      const rows = yield* store.find("events", { where: { caused_by: { in: causes } }, orderBy: ["seq", "asc"], limit })
      found.push(...rows.map((row) => otherOf(row, distance)))
      const ids = rows.map(({ id }) => id)
      causes =
        ids.length === 0 ? [] : (yield* store.find("runs", { where: { event_id: { in: ids } } })).map(({ id }) => id)
    }
    return found
  })

/** Explains an event; `undefined` when there is none of this id. */
export const explain = (store: StoreShape, eventId: string): Effect.Effect<Explanation | undefined, StoreError> =>
  Effect.gen(function* () {
    const [row] = yield* store.find("events", { where: { id: eventId } })
    if (row === undefined) return undefined
    const only = row.held === 0 ? firstDecision(row) : undefined
    const decisions =
      row.held === 1
        ? yield* store.find("decisions", { where: { event_id: eventId }, orderBy: ["seq", "asc"] })
        : only === undefined
          ? []
          : [only]
    const approvals = yield* store.find("approvals", { where: { event_id: eventId }, orderBy: ["requested_at", "asc"] })
    const votes = yield* store.find("votes", { where: { approval_id: { in: approvals.map(({ id }) => id) } } })
    const runs = yield* store.find("runs", { where: { event_id: eventId }, orderBy: ["id", "asc"] })
    const deliveries = yield* store.find("deliveries", { where: { event_id: eventId }, orderBy: ["seq", "asc"] })
    const members = yield* store.find("events", {
      where: { merged_into: eventId },
      orderBy: ["seq", "asc"],
      limit: MOST_MEMBERS + 1
    })
    const consequences = yield* consequencesOf(store, runs)
    const event = toEvent(row)
    return new Explanation({
      eventId,
      source: row.source,
      type: typeOf(event),
      agentId: row.agent_id,
      route: JSON.parse(row.route) as RoutedBy,
      priority: row.priority,
      sender: event.sender,
      sessionKey: event.sessionKey,
      traceId: event.traceId,
      receivedAt: new Date(row.received_at),
      state: row.state,
      denied: row.state === "denied" ? (row.reason ?? undefined) : undefined,
      decisions: decisions.map(decisionOf),
      approvals: approvals.map((approval) => approvalOf(approval, votes)),
      runs: runs.map(runOf),
      deliveries: deliveries.map(deliveryOf),
      mergedInto: row.merged_into ?? undefined,
      leads: members.slice(0, MOST_MEMBERS).map(({ id }) => id),
      leadsMore: members.length > MOST_MEMBERS,
      causes: yield* causesOf(store, row),
      consequences: consequences.slice(0, MOST_CONSEQUENCES),
      hasMoreConsequences: consequences.length > MOST_CONSEQUENCES
    })
  })
