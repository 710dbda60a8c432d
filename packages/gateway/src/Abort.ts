import { Effect } from "effect"
import { GatewayError } from "./domain/Errors.ts"
import { type EventRecord, isFinal } from "./domain/EventRecord.ts"
import type { GatewayEvent } from "./domain/GatewayEvent.ts"
import { Store } from "./records/Store.ts"
import { Dispatcher } from "./runs/Dispatcher.ts"
import { abortedBy } from "./runs/RunItem.ts"

/** Who ends a run. */
export interface AbortOptions {
  /** Recorded with the run's end. Default: `program`. */
  readonly by?: string
  /** Whether they may, of the run's event. Where not, it is as if there were none. Default: they may. */
  readonly allowed?: (event: GatewayEvent) => boolean
}

/** Ends runs; see `GatewayService.abort`. */
export const make = (find: (eventId: string) => Effect.Effect<EventRecord | undefined, GatewayError>) =>
  Effect.gen(function* () {
    const store = yield* Store
    const dispatcher = yield* Dispatcher
    const rowOf = (id: string) =>
      Effect.mapError(
        Effect.map(store.find("runs", { where: { id } }), ([row]) => row),
        (cause) => new GatewayError({ reason: "storage", message: cause.message, cause })
      )
    const conflict = (message: string) => new GatewayError({ reason: "conflict", message })
    return (id: string, { allowed = () => true, by = "program" }: AbortOptions = {}) =>
      Effect.gen(function* () {
        const row = yield* rowOf(id)
        const before = yield* find(row?.event_id ?? id)
        if (before === undefined || !allowed(before.event)) {
          return yield* new GatewayError({ reason: "not-found", message: `there is no run or event "${id}"` })
        }
        const runId = row?.id ?? before.run?.id
        if (runId === undefined) return yield* conflict(`event ${id} has no run: it is ${before.state}`)
        if (before.run?.id === runId && !isFinal(before)) yield* dispatcher.abort(runId, before.event, by)
        const after = (yield* find(before.event.id)) ?? before
        const run = yield* rowOf(runId)
        if (run?.state === "cancelled" && run.error === abortedBy(by)) return after
        const how = run?.state === "merged" ? `was taken over by that of ${after.mergedInto}` : `is ${run?.state}`
        return yield* conflict(`run ${runId} ${how}${run?.error ? `: ${run.error}` : ""}`)
      })
  })
