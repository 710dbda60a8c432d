import { Effect } from "effect"
import type { EventSummary } from "../domain/EventRecord.ts"
import type { EventSource, EventState } from "../domain/GatewayEvent.ts"
import { firstIdAt } from "../domain/Ids.ts"
import { nextTurn } from "../internal/NextTurn.ts"
import { typeOf } from "./EventCodec.ts"
import type { StoreError, StoreShape } from "./Store.ts"

export interface EventFilter {
  readonly state?: EventState | undefined
  readonly source?: EventSource | undefined
  readonly agentId?: string | undefined
  /** Only events that came at or after this instant. */
  readonly from?: Date | undefined
  /** Only events that came before this instant. */
  readonly to?: Date | undefined
  /** The cursor: only events before this one, the page before's `next`. */
  readonly before?: number | undefined
  /** Default: 100. At most 1,000. */
  readonly limit?: number | undefined
}

export interface EventPage {
  /** Newest first. */
  readonly events: ReadonlyArray<EventSummary>
  /** Where the next page begins; `undefined`: there is none. A page may be short, or empty, and be followed by others. */
  readonly next: number | undefined
}

/** Events looked through at a time, with others let in between: not every filter has an index. */
const WINDOW = 5_000
/** Windows looked through for one page. */
const MOST_WINDOWS = 100
const LARGEST_PAGE = 1_000

const COLUMNS = [
  "seq",
  "id",
  "source",
  "agent_id",
  "priority",
  "received_at",
  "metadata",
  "trace_id",
  "sender",
  "session_key",
  "caused_by",
  "state",
  "action",
  "policy",
  "reason",
  "merged_into",
  "run_id"
] as const

/** A page of the events there are, without what they carry. */
export const list = (
  store: StoreShape,
  { agentId, before, from, limit = 100, source, state, to }: EventFilter
): Effect.Effect<EventPage, StoreError> =>
  Effect.gen(function* () {
    const most = Math.min(limit, LARGEST_PAGE)
    // Ids are never less than the time they were made at, so none before this one came since `from`.
    const sinceFrom = from === undefined ? undefined : { id: { gte: firstIdAt("evt", from.getTime()) } }
    const [first] = yield* store.find("events", {
      columns: ["seq"],
      ...(sinceFrom === undefined ? {} : { where: sinceFrom }),
      orderBy: [sinceFrom === undefined ? "seq" : "id", "asc"],
      limit: 1
    })
    const [last] = yield* store.find("events", { columns: ["seq"], orderBy: ["seq", "desc"], limit: 1 })
    if (first === undefined || last === undefined) return { events: [], next: undefined }
    const events: Array<EventSummary> = []
    let below = Math.min(before ?? Number.MAX_SAFE_INTEGER, last.seq + 1)
    for (let windows = 0; windows < MOST_WINDOWS && below > first.seq; windows++) {
      const rows = yield* store.find("events", {
        columns: COLUMNS,
        where: {
          seq: { lt: below, gte: Math.max(below - WINDOW, first.seq) },
          state,
          source,
          agent_id: agentId,
          received_at:
            from === undefined && to === undefined
              ? undefined
              : { ...(from && { gte: from.getTime() }), ...(to && { lt: to.getTime() }) }
        },
        orderBy: ["seq", "desc"],
        limit: most - events.length
      })
      for (const row of rows) {
        events.push({
          id: row.id,
          source: row.source,
          agentId: row.agent_id,
          priority: row.priority,
          type: typeOf({ metadata: JSON.parse(row.metadata) as Record<string, unknown> }),
          receivedAt: new Date(row.received_at),
          traceId: row.trace_id ?? undefined,
          sender: row.sender ?? undefined,
          sessionKey: row.session_key ?? undefined,
          causedBy: row.caused_by ?? undefined,
          state: row.state,
          decision: row.action ?? undefined,
          policy: row.policy ?? undefined,
          reason: row.reason ?? undefined,
          mergedInto: row.merged_into ?? undefined,
          runId: row.run_id ?? undefined
        })
      }
      const full = events.length >= most ? rows.at(-1)?.seq : undefined
      below = full ?? below - WINDOW
      if (full !== undefined) break
      yield* nextTurn
    }
    return { events, next: below > first.seq ? below : undefined }
  })
