import { Effect } from "effect"
import type { DeliveryCounts, DeliveryOutcome, DeliveryState } from "../domain/Delivery.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { makeIds } from "../domain/Ids.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store } from "../records/Store.ts"
import type { DeliveryRow } from "../records/Tables.ts"
import type { DeliveryVerdict } from "./DeliveryVerdict.ts"

/** What a run leaves to be said. */
export interface Outgoing {
  readonly event: GatewayEvent
  readonly agentId: string
  readonly runId: string
  readonly outcome: DeliveryOutcome
  readonly text: string
}

const PAGE = 500
const COUNTED: ReadonlyArray<DeliveryState> = ["prepared", "sending", "unknown", "failed"]

/** What is recorded of deliveries: each a step of the journal, with its audit record and what is told. */
export const make = Effect.gen(function* () {
  const store = yield* Store
  const journal = yield* Journal
  const audit = yield* AuditLog
  const nextId = makeIds()
  const counts: { -readonly [K in keyof DeliveryCounts]: number } = {
    prepared: 0,
    sending: 0,
    unknown: 0,
    failed: 0,
    sent: 0
  }
  let lastSeq = 0

  yield* journal.register(
    Effect.map(store.find("deliveries", { orderBy: ["seq", "desc"], limit: 1 }), ([last]) => {
      lastSeq = last?.seq ?? 0
    })
  )
  for (let after = 0, more = true; more; ) {
    const rows = yield* store.find("deliveries", {
      where: { state: { in: COUNTED }, seq: { gt: after } },
      orderBy: ["seq", "asc"],
      limit: PAGE
    })
    for (const { state } of rows) if (state !== "dropped") counts[state] += 1
    after = rows.at(-1)?.seq ?? after
    more = rows.length === PAGE
  }

  const about = (row: DeliveryRow, at: number) => ({
    at,
    eventId: row.event_id,
    agentId: row.agent_id,
    deliveryId: row.id,
    runId: row.run_id,
    to: { channel: row.channel, target: row.target }
  })
  const note = (
    tx: Tx,
    row: DeliveryRow,
    kind: "prepared" | "started" | "ended" | "replayed" | "dropped",
    data: Record<string, unknown>
  ) =>
    audit.append(tx, {
      kind: `delivery.${kind}`,
      eventId: row.event_id,
      data: { deliveryId: row.id, runId: row.run_id, ...data }
    })
  const move = (tx: Tx, row: DeliveryRow, set: Partial<DeliveryRow> & Pick<DeliveryRow, "state">): DeliveryRow => {
    tx.write({ op: "update", table: "deliveries", key: { id: row.id }, set })
    tx.onCommit(() => {
      if (row.state !== "dropped" && row.state !== "sent") counts[row.state] -= 1
      if (set.state !== "dropped") counts[set.state] += 1
    })
    return { ...row, ...set }
  }

  /** What a run left to be said is kept, within the step that ends the run. `undefined`: it goes nowhere. */
  const prepare = (tx: Tx, { agentId, event, outcome, runId, text }: Outgoing): DeliveryRow | undefined => {
    if (event.replyTo === undefined) return undefined
    lastSeq += 1
    const { channel, target } = event.replyTo
    const row: DeliveryRow = {
      seq: lastSeq,
      id: nextId("dlv", tx.now),
      event_id: event.id,
      run_id: runId,
      agent_id: agentId,
      channel,
      target,
      state: "prepared",
      attempt: 0,
      outcome,
      text,
      created_at: tx.now,
      due_at: tx.now,
      reference: null,
      error: null,
      ended_at: null
    }
    tx.write({ op: "insert", table: "deliveries", row })
    tx.onCommit(() => {
      counts.prepared += 1
    })
    note(tx, row, "prepared", { channel, target, outcome })
    tx.publish({ _tag: "DeliveryPrepared", ...about(row, tx.now) })
    return row
  }

  /** The channel is about to have it: from here on a crash leaves what nobody knows. */
  const begin = (row: DeliveryRow) =>
    journal.step((tx) => {
      const attempt = row.attempt + 1
      note(tx, row, "started", { attempt })
      tx.publish({ _tag: "DeliveryStarted", ...about(row, tx.now), attempt })
      return move(tx, row, { state: "sending", attempt })
    })

  const settle = (tx: Tx, row: DeliveryRow, verdict: DeliveryVerdict): void => {
    const { attempt } = row
    const { state } = verdict
    const told = { ...about(row, tx.now), attempt }
    if (state === "sent") {
      const { reference } = verdict
      note(tx, row, "ended", { attempt, state, reference })
      tx.publish({ _tag: "DeliverySent", ...told, reference: reference ?? undefined })
      move(tx, row, { state, reference, error: null, ended_at: tx.now })
      return
    }
    const { error } = verdict
    if (state === "prepared") {
      const dueAt = tx.now + verdict.delay
      note(tx, row, "ended", { attempt, state, error, dueAt })
      tx.publish({ _tag: "DeliveryPostponed", ...told, error, dueAt })
      move(tx, row, { state, error, due_at: dueAt })
      return
    }
    note(tx, row, "ended", { attempt, state, error })
    tx.publish({ _tag: state === "unknown" ? "DeliveryUnknown" : "DeliveryFailed", ...told, error })
    move(tx, row, { state, error, ended_at: tx.now })
  }
  const end = (row: DeliveryRow, verdict: DeliveryVerdict) => journal.step((tx) => settle(tx, row, verdict))

  /** What an earlier process was sending when it ended, as `verdict` says of each. */
  const recover = (rows: ReadonlyArray<DeliveryRow>, verdict: (row: DeliveryRow) => DeliveryVerdict) =>
    journal.step((tx) => {
      for (const row of rows) settle(tx, row, verdict(row))
    })

  const replay = (row: DeliveryRow, by: string) =>
    journal.step((tx) => {
      note(tx, row, "replayed", { from: row.state, by })
      tx.publish({ _tag: "DeliveryReplayed", ...about(row, tx.now), by })
      return move(tx, row, { state: "prepared", attempt: 0, due_at: tx.now, ended_at: null })
    })
  const drop = (row: DeliveryRow, by: string) =>
    journal.step((tx) => {
      note(tx, row, "dropped", { from: row.state, by })
      tx.publish({ _tag: "DeliveryDropped", ...about(row, tx.now), by })
      return move(tx, row, { state: "dropped", ended_at: tx.now })
    })
  return { begin, counts: (): DeliveryCounts => ({ ...counts }), drop, end, prepare, recover, replay }
})
