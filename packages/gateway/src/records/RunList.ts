import { Effect } from "effect"
import type { RunState, RunSummary } from "../domain/Run.ts"
import { nextTurn } from "../internal/NextTurn.ts"
import { toRunSummary } from "./EventCodec.ts"
import type { StoreError, StoreShape } from "./Store.ts"

export interface RunFilter {
  readonly state?: RunState | undefined
  readonly agentId?: string | undefined
  /** The session of their events. */
  readonly sessionKey?: string | undefined
  /** The cursor: only runs decided before this one, the page before's `next`. */
  readonly before?: string | undefined
  /** Default: 100. At most 1,000. */
  readonly limit?: number | undefined
}

export interface RunPage {
  /** The one decided last first. */
  readonly runs: ReadonlyArray<RunSummary>
  /** Where the next page begins; `undefined`: there is none. A page may be short, or empty, and be followed by others. */
  readonly next: string | undefined
}

/** Runs looked through at a time, with others let in between: filters have no index. */
const WINDOW = 5_000
/** Windows looked through for one page. */
const MOST_WINDOWS = 100
const LARGEST_PAGE = 1_000

const COLUMNS = [
  "id",
  "event_id",
  "agent_id",
  "source",
  "session_key",
  "state",
  "attempt",
  "lease_until",
  "worker",
  "reserved_tokens",
  "input_tokens",
  "output_tokens",
  "cost_usd",
  "model",
  "error",
  "created_at",
  "started_at",
  "ended_at"
] as const

/** A page of the runs there are. */
export const list = (
  store: StoreShape,
  { agentId, before, limit = 100, sessionKey, state }: RunFilter
): Effect.Effect<RunPage, StoreError> =>
  Effect.gen(function* () {
    const most = Math.min(limit, LARGEST_PAGE)
    const isFiltered = agentId !== undefined || sessionKey !== undefined || state !== undefined
    const size = isFiltered ? WINDOW : most + 1
    const found: Array<string> = []
    let below = before
    let isMore = true
    for (let windows = 0; windows < MOST_WINDOWS && isMore && found.length < most; windows++) {
      const rows = yield* store.find("runs", {
        columns: ["id", "agent_id", "session_key", "state"],
        where: { id: below === undefined ? undefined : { lt: below } },
        orderBy: ["id", "desc"],
        limit: size
      })
      isMore = rows.length === size
      for (const [i, { agent_id, id, session_key, state: stands }] of rows.entries()) {
        below = id
        const isMeant =
          (agentId === undefined || agent_id === agentId) &&
          (sessionKey === undefined || session_key === sessionKey) &&
          (state === undefined || stands === state)
        if (!isMeant || found.push(id) < most) continue
        isMore ||= i + 1 < rows.length
        break
      }
      yield* nextTurn
    }
    if (found.length === 0) return { runs: [], next: isMore ? below : undefined }
    const where = { id: { in: found } }
    const rows = yield* store.find("runs", { columns: COLUMNS, where, orderBy: ["id", "desc"] })
    return { runs: rows.map(toRunSummary), next: isMore ? below : undefined }
  })
