import { Effect } from "effect"
import type { ReplyRoute } from "../domain/Delivery.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { EVENT_COLUMNS, latestApproval, toLazyEvent } from "../records/EventCodec.ts"
import type { StoreShape } from "../records/Store.ts"
import type { ApprovalRow, EventRow } from "../records/Tables.ts"
import { summaryLine } from "./Describe.ts"

/** An event whose decision is still to come. */
export interface Hold {
  readonly event: GatewayEvent
  readonly agentId: string
  readonly payloadText: string
  /**
   * - `undecided`: a policy is thinking. `queued`: judged `queue`. `merging`: leads an open merge window.
   * - `approval`: judged `escalate`.
   */
  readonly kind: "undecided" | "queued" | "merging" | "approval"
  /** When it is judged again, or, for an approval, denied; Unix milliseconds. Undecided ones have none. */
  readonly dueAt: number | undefined
  /** A queued one that named no time: judged again whenever what policies see has changed. */
  readonly onChange: boolean
  readonly mergeKey: string | undefined
  /** The events merged into this one, itself included: their ids and a line on each. */
  readonly members: Array<{ readonly id: string; readonly line: string }>
  readonly approval: ApprovalRow | undefined
  /** Its run that was abandoned: what a person is asked about, and the task it has when it is tried again. */
  readonly abandoned: { readonly runId: string; readonly task: string } | undefined
}

/** Queued events that named no time are judged again after this long at the latest. Milliseconds. */
export const RECHECK_AFTER = 60_000

/** How many are held, by why. */
export type HoldCounts = { [K in Hold["kind"]]: number }

/** One answer goes to one place: events whose answers go elsewhere are not merged with these. */
const windowOf = (mergeKey: string, replyTo: ReplyRoute | undefined): string =>
  replyTo === undefined ? JSON.stringify([mergeKey]) : JSON.stringify([mergeKey, replyTo.channel, replyTo.target])

/** The events that are held, in memory as they are in the records. */
export class Holds {
  private readonly byId = new Map<string, Hold>()
  /** Open merge windows: agent, key and place of the answer to the leader's id. Keys are data, so they are kept apart, not joined. */
  private readonly windows = new Map<string, Map<string, string>>()
  private readonly approvals = new Map<string, string>()
  readonly counts: HoldCounts = { undecided: 0, queued: 0, merging: 0, approval: 0 }

  get(id: string): Hold | undefined {
    return this.byId.get(id)
  }
  set(hold: Hold): void {
    const { event } = hold
    this.remove(event.id)
    this.byId.set(event.id, hold)
    this.counts[hold.kind] += 1
    if (hold.kind === "merging" && hold.mergeKey !== undefined) {
      const windows = this.windows.get(hold.agentId) ?? new Map<string, string>()
      this.windows.set(hold.agentId, windows.set(windowOf(hold.mergeKey, event.replyTo), event.id))
    }
    if (hold.approval !== undefined && hold.kind === "approval") this.approvals.set(hold.approval.id, event.id)
  }
  remove(id: string): void {
    const hold = this.byId.get(id)
    if (hold === undefined) return
    this.byId.delete(id)
    this.counts[hold.kind] -= 1
    if (hold.kind === "merging" && hold.mergeKey !== undefined) {
      const windows = this.windows.get(hold.agentId)
      windows?.delete(windowOf(hold.mergeKey, hold.event.replyTo))
      if (windows?.size === 0) this.windows.delete(hold.agentId)
    }
    if (hold.approval !== undefined) this.approvals.delete(hold.approval.id)
  }
  /** The leader of the agent's open merge window for this key and place of the answer. */
  window(agentId: string, mergeKey: string, replyTo: ReplyRoute | undefined): Hold | undefined {
    const id = this.windows.get(agentId)?.get(windowOf(mergeKey, replyTo))
    return id === undefined ? undefined : this.byId.get(id)
  }
  byApproval(approvalId: string): Hold | undefined {
    const id = this.approvals.get(approvalId)
    return id === undefined ? undefined : this.byId.get(id)
  }
  values(): Iterable<Hold> {
    return this.byId.values()
  }
  reset(): void {
    this.byId.clear()
    this.windows.clear()
    this.approvals.clear()
    Object.assign(this.counts, { undecided: 0, queued: 0, merging: 0, approval: 0 })
  }
}

const KINDS: { readonly [S in EventRow["state"]]?: Hold["kind"] } = {
  accepted: "undecided",
  deferred: "queued",
  merging: "merging",
  "awaiting-approval": "approval"
}
const PAGE = 1_000
const COLUMNS = [...EVENT_COLUMNS, "seq", "state", "due_at", "merge_key"] as const

/** The events merged into each of these, in the order they came. */
const mergedInto = (store: StoreShape, leaders: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const members = new Map<string, Hold["members"]>()
    if (leaders.length === 0) return members
    const merged = yield* store.find("events", {
      columns: ["id", "merged_into"],
      where: { merged_into: { in: leaders } },
      orderBy: ["seq", "asc"]
    })
    for (let from = 0; from < merged.length; from += PAGE) {
      const page = merged.slice(from, from + PAGE)
      const rows = yield* store.find("events", {
        columns: EVENT_COLUMNS,
        where: { id: { in: page.map(({ id }) => id) } }
      })
      const lines = new Map(rows.map((row) => [row.id, summaryLine(toLazyEvent(row))]))
      for (const { id, merged_into } of page) {
        const member = { id, line: lines.get(id) ?? "" }
        const leader = merged_into ?? ""
        const of = members.get(leader)
        if (of === undefined) members.set(leader, [member])
        else of.push(member)
      }
    }
    return members
  })

/** Reads the held events from the records. */
export const load = (store: StoreShape, holds: Holds) =>
  Effect.gen(function* () {
    holds.reset()
    let after = 0
    while (true) {
      const rows = yield* store.find("events", {
        columns: COLUMNS,
        where: { seq: { gt: after }, state: { in: Object.keys(KINDS) as Array<EventRow["state"]> } },
        orderBy: ["seq", "asc"],
        limit: PAGE
      })
      const approvals = yield* store.find("approvals", { where: { event_id: { in: rows.map((row) => row.id) } } })
      const approvalsOf = new Map<string, Array<ApprovalRow>>()
      for (const row of approvals) approvalsOf.set(row.event_id, [...(approvalsOf.get(row.event_id) ?? []), row])
      const merged = yield* mergedInto(
        store,
        rows.filter((row) => row.merge_key !== null).map((row) => row.id)
      )
      for (const row of rows) {
        after = row.seq
        const kind = KINDS[row.state]
        if (kind === undefined) continue
        const event = toLazyEvent(row)
        const approval = latestApproval(approvalsOf.get(row.id) ?? [])
        const [run] = approval?.run_id == null ? [] : yield* store.find("runs", { where: { id: approval.run_id } })
        const members: Hold["members"] = []
        if (row.merge_key !== null) {
          members.push({ id: row.id, line: summaryLine(event) })
          members.push(...(merged.get(row.id) ?? []))
        }
        holds.set({
          event,
          agentId: row.agent_id,
          payloadText: row.payload,
          kind,
          dueAt: (kind === "approval" ? approval?.expires_at : row.due_at) ?? undefined,
          onChange: kind === "queued" && row.due_at === null,
          mergeKey: row.merge_key ?? undefined,
          members,
          approval,
          abandoned: run === undefined ? undefined : { runId: run.id, task: run.task }
        })
      }
      if (rows.length < PAGE) return
    }
  })
