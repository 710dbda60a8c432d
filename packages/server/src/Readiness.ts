import { GatewayService, Journal, Store } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect } from "effect"
import { json } from "./HttpAnswers.ts"

const unready = (detail: string) => Problem.problem(503, detail, { headers: { "retry-after": "5" } })

/** Whether it is of use to send something here: 200, or 503 with why not. */
export const make = (
  draining: () => boolean
): Effect.Effect<Effect.Effect<Problem.HttpAnswer>, never, GatewayService | Journal | Store> =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const journal = yield* Journal
    const store = yield* Store
    return Effect.gen(function* () {
      if (draining()) return unready("the gateway is stopping")
      if (journal.failing() !== undefined) return unready("the storage cannot be written")
      const { held, scheduler } = yield* gateway.status()
      if (scheduler.stalled) {
        return unready(`the scheduler has stalled: jobs were due at ${scheduler.nextWake?.toISOString()}`)
      }
      yield* store.find("switches", { limit: 1 })
      // One that is held takes in and keeps what comes, so it is of use to send it here.
      return json(200, { status: held === undefined ? "ready" : "held" })
    }).pipe(
      Effect.catchAll((error) =>
        Effect.as(Effect.logError("the storage does not answer", error), unready("the storage does not answer"))
      )
    )
  })
