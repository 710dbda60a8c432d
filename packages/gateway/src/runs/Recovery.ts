import { Effect } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import type { GatewayError } from "../domain/Errors.ts"
import { EVENT_COLUMNS, toLazyEvent } from "../records/EventCodec.ts"
import { Store, type StoreError } from "../records/Store.ts"
import { itemOf, type RunItem } from "./RunItem.ts"
import type { RunSteps } from "./RunSteps.ts"

/** Runs read at a time. */
const PAGE = 500
const COLUMNS = [
  "id",
  "event_id",
  "agent_id",
  "source",
  "state",
  "attempt",
  "task",
  "started_at",
  "input_tokens",
  "output_tokens"
] as const

export interface RecoveryOptions {
  readonly abandon: RunSteps["abandon"]
  /** Whether this process has recorded the run itself: events become due meanwhile. */
  readonly isOwn: (runId: string) => boolean
  /** Has a run wait for its turn. */
  readonly enqueue: (item: RunItem) => void
}

/**
 * Takes up the runs an earlier process left: those that wait, and those it was cut off in. One that was cut off in its last
 * attempt, or that is not to be tried again, is abandoned.
 */
export const make = (
  { limits: { maxAttempts, onCrash } }: GatewayConfig,
  { abandon, enqueue, isOwn }: RecoveryOptions
): Effect.Effect<Effect.Effect<void, StoreError | GatewayError>, never, Store> =>
  Effect.map(Store, (store) =>
    Effect.gen(function* () {
      // By id, not by time: a clock may stand still or be set back, and a session's runs are in order all the same.
      let after = ""
      while (true) {
        const page = yield* store.find("runs", {
          columns: COLUMNS,
          where: { state: { in: ["pending", "running"] }, id: { gt: after } },
          orderBy: ["id", "asc"],
          limit: PAGE
        })
        const last = page.at(-1)
        if (last === undefined) return
        after = last.id
        const rows = yield* store.find("events", {
          columns: EVENT_COLUMNS,
          where: { id: { in: page.map((run) => run.event_id) } }
        })
        const events = new Map(rows.map((row) => [row.id, row]))
        const approvals = yield* store.find("approvals", {
          columns: ["consumed_by", "digest"],
          where: { event_id: { in: [...events.keys()] } }
        })
        const approvedFor = new Map(approvals.map(({ consumed_by, digest }) => [consumed_by, digest]))
        for (const run of page) {
          if (isOwn(run.id)) continue
          const row = events.get(run.event_id)
          if (row === undefined) {
            yield* abandon(run, "the event it was to handle is not in the records any more", 0, undefined)
            continue
          }
          const { agent_id: agentId, attempt, id: runId, task: taskDescription } = run
          const approved = approvedFor.get(runId)
          const dispatch = { agentId, taskDescription, approved, event: toLazyEvent(row), payloadText: row.payload }
          if (run.state === "running" && (attempt >= maxAttempts || onCrash === "escalate")) {
            const error =
              attempt >= maxAttempts
                ? `cut off in its last attempt of ${maxAttempts}`
                : `cut off in attempt ${attempt}, and not tried again (limits.onCrash)`
            yield* abandon(run, error, 0, { dispatch, why: `was cut off in attempt ${attempt}` })
          } else {
            const spent = { inputTokens: run.input_tokens, outputTokens: run.output_tokens }
            enqueue(itemOf(dispatch, runId, attempt, spent))
          }
        }
      }
    })
  )
