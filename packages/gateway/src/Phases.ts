import { Cause, Effect, Layer } from "effect"
import { GatewayConfigError, GatewayStartError, SchedulerError } from "./domain/Errors.ts"
import { type Component, CurrentPhase, type Phase, Supervisor } from "./internal/Supervisor.ts"

/** What has started, and how it stands: below everything that is to be shown as a component. */
export { layer } from "./internal/Supervisor.ts"

/** What the configuration has wrong is said as it is: it names the key, and not who came across it. */
type Refused<E> = Extract<E, GatewayConfigError | SchedulerError>
const isRefused = <E>(error: E): error is Refused<E> =>
  error instanceof GatewayConfigError || error instanceof SchedulerError

interface Failure {
  readonly message: string
  readonly retryable?: boolean
}

/**
 * A layer that is shown, by this name, among the gateway's components: as `starting` while it is built, as `stopping` while it
 * is released. One that fails to build does so with a `GatewayStartError`, which says what is released because of it.
 *
 * The order itself is that of the layers: what is provided to others is built before them, and released after them.
 */
export const component = <A, E extends Failure, R>(
  phase: Phase,
  name: string,
  layer: Layer.Layer<A, E, R>
): Layer.Layer<A, Refused<E> | GatewayStartError, R | Supervisor> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const supervisor = yield* Supervisor
      const report = (state: Component["state"] | undefined) =>
        Effect.zipRight(
          Effect.sync(() =>
            supervisor.report(name, state && { name, phase, state, restarts: 0, lastError: undefined })
          ),
          Effect.logDebug(`${name}: ${state ?? "stopped"} (${phase})`)
        )
      yield* Effect.acquireRelease(report("starting"), () => report(undefined))
      const context = yield* Layer.build(Layer.provide(layer, Layer.succeed(CurrentPhase, phase))).pipe(
        Effect.mapError((cause) =>
          isRefused(cause)
            ? cause
            : new GatewayStartError({ phase, component: name, undone: [...supervisor.started].reverse(), cause })
        ),
        Effect.tapErrorCause((cause) =>
          Cause.isDie(cause) ? Effect.logError(`${name} died as it started (phase ${phase})`, cause) : Effect.void
        )
      )
      supervisor.started.add(name)
      yield* Effect.acquireRelease(report("running"), () => {
        supervisor.started.delete(name)
        return report("stopping")
      })
      return context
    })
  )
