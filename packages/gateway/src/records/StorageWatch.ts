import { Effect, Layer, Schedule } from "effect"
import { supervise } from "../internal/Supervisor.ts"
import { AuditLog } from "./AuditLog.ts"
import { Journal } from "./Journal.ts"

/** How often a write is tried while writes fail: nobody else may, once the gateway is told to be unready. */
const RETRY_EVERY = "1 second"

/**
 * Finds out when a store that failed can be written again, and records how long it could not: each try is the record
 * itself, so that what is found out is that a record can be kept.
 */
export const layer: Layer.Layer<never, never, Journal | AuditLog> = Layer.scopedDiscard(
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    const record = Effect.suspend(() => {
      const failing = journal.failing()
      return failing === undefined
        ? Effect.void
        : journal.step((tx) =>
            audit.append(tx, {
              kind: "storage.recovered",
              data: { failedAt: failing.since, withdrawnBatches: failing.batches }
            })
          )
    })
    const watch = journal.withdrawn.pipe(
      Effect.zipRight(Effect.sleep(RETRY_EVERY)),
      Effect.zipRight(Effect.retry(record, Schedule.spaced(RETRY_EVERY))),
      Effect.catchAll((error) => Effect.logError("that the storage works again could not be recorded", error)),
      Effect.forever
    )
    yield* supervise("storage watch", watch)
  })
)
