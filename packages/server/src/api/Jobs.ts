import { type GatewayError, Scheduler, type SchedulerError } from "@postilion/gateway"
import { Effect } from "effect"
import { received } from "./Events.ts"
import type { Handlers } from "./Operations.ts"
import { invalid, notFound } from "./Refusals.ts"

/** Asked for by its id, a job can be wrong in one way only: there is none. */
const orMissing = <A>(effect: Effect.Effect<A, SchedulerError | GatewayError>) =>
  Effect.mapError(effect, (error) => (error._tag === "SchedulerError" ? notFound(error.message) : error))

/** What is due now and then. */
export const jobs = Effect.map(
  Scheduler,
  (scheduler) =>
    ({
      list: () => Effect.sync(() => ({ jobs: scheduler.list({ includeDisabled: true }) })),
      add: ({ payload }, { principal: { name } }) =>
        Effect.mapBoth(scheduler.add(payload, name), {
          onSuccess: ({ next, ...job }) => ({ job, next }),
          onFailure: (error: SchedulerError | GatewayError) =>
            error._tag === "SchedulerError" ? invalid(error.message) : error
        }),
      show: ({ path: { jobId }, urlParams }) =>
        Effect.gen(function* () {
          const next = yield* scheduler.next(jobId)
          const job = scheduler.list({ includeDisabled: true }).find(({ id }) => id === jobId)
          if (job === undefined) return yield* notFound(`there is no job "${jobId}"`)
          return { job, next, history: yield* scheduler.history(jobId, urlParams) }
        }).pipe(orMissing),
      remove: ({ path: { jobId } }, { principal: { name } }) =>
        Effect.as(scheduler.remove(jobId, name), { removed: jobId }).pipe(orMissing),
      enable: ({ path: { jobId } }, { principal: { name } }) => orMissing(scheduler.enable(jobId, true, name)),
      disable: ({ path: { jobId } }, { principal: { name } }) => orMissing(scheduler.enable(jobId, false, name)),
      run: ({ path: { jobId } }, { principal: { name } }) =>
        Effect.map(scheduler.run(jobId, name), received).pipe(orMissing)
    }) satisfies Handlers<"jobs">
)
