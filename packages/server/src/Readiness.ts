import { GatewayService, Journal, Store } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect } from "effect"

const unready = (detail: string) => Effect.fail(Problem.problem(503, detail, { headers: { "retry-after": "5" } }))

/** Whether it is of use to send something here; else the refusal that says why not. */
export const make = (draining: () => boolean) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const journal = yield* Journal
    const store = yield* Store
    return Effect.gen(function* () {
      if (draining()) return yield* unready("the gateway is stopping")
      if (journal.failing() !== undefined) return yield* unready("the storage cannot be written")
      const { held, scheduler } = yield* gateway.status()
      if (scheduler.stalled) {
        return yield* unready(`the scheduler has stalled: jobs were due at ${scheduler.nextWake?.toISOString()}`)
      }
      yield* store.find("switches", { limit: 1 })
      // One that is held takes in and keeps what comes, so it is of use to send it here.
      return { status: held === undefined ? ("ready" as const) : ("held" as const) }
    }).pipe(
      Effect.catchTag("StoreError", (error) =>
        Effect.zipRight(Effect.logError("the storage does not answer", error), unready("the storage does not answer"))
      )
    )
  })
