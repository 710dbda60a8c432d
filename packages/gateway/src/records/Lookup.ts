import { Effect } from "effect"
import type { Approval, EventRecord } from "../domain/EventRecord.ts"
import type { RunRecord } from "../domain/Run.ts"
import { latestApproval, toApproval, toEventRecord, toRun } from "./EventCodec.ts"
import type { StoreError, StoreShape } from "./Store.ts"

/** Approvals listed at a time. */
const MOST_APPROVALS = 1_000

const votesOn = (store: StoreShape, ids: ReadonlyArray<string>) =>
  ids.length === 0 ? Effect.succeed([]) : store.find("votes", { where: { approval_id: { in: ids } } })

/** Everything recorded of an event; `undefined` when there is none of this id. */
export const eventOf = (store: StoreShape, id: string): Effect.Effect<EventRecord | undefined, StoreError> =>
  Effect.gen(function* () {
    const [row] = yield* store.find("events", { where: { id } })
    if (row === undefined) return undefined
    const [run] = row.run_id === null ? [] : yield* store.find("runs", { where: { id: row.run_id } })
    const approval = latestApproval(yield* store.find("approvals", { where: { event_id: id } }))
    const votes = approval === undefined ? [] : yield* votesOn(store, [approval.id])
    const [delivery] = yield* store.find("deliveries", { where: { event_id: id } })
    return toEventRecord(row, run, approval, votes, delivery)
  })

/** A run; `undefined` when there is none of this id. */
export const runOf = (store: StoreShape, id: string): Effect.Effect<RunRecord | undefined, StoreError> =>
  Effect.map(store.find("runs", { where: { id } }), ([row]) => (row === undefined ? undefined : toRun(row)))

/** An approval, also one that has been decided; `undefined` when there is none of this id. */
export const approvalOf = (store: StoreShape, id: string): Effect.Effect<Approval | undefined, StoreError> =>
  Effect.gen(function* () {
    const [row] = yield* store.find("approvals", { where: { id } })
    return row === undefined ? undefined : toApproval(row, yield* votesOn(store, [id]))
  })

/** What waits for a person, oldest first, at most 1,000. */
export const approvalsOf = (store: StoreShape): Effect.Effect<ReadonlyArray<Approval>, StoreError> =>
  Effect.gen(function* () {
    const rows = yield* store.find("approvals", {
      where: { state: "pending" },
      orderBy: ["requested_at", "asc"],
      limit: MOST_APPROVALS
    })
    const votes = yield* votesOn(
      store,
      rows.map(({ id }) => id)
    )
    return rows.map((row) => toApproval(row, votes))
  })
