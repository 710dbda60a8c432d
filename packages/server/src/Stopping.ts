import { GatewayService } from "@postilion/gateway"
import { Clock, Context, Effect, Fiber, Layer, type Scope } from "effect"
import { HttpListener } from "./HttpListener.ts"

export interface StoppingShape {
  /** Until when what runs may finish, Unix milliseconds; `undefined` while the server does not stop. */
  readonly until: () => number | undefined
  /** Calls `listener` when it begins to. */
  readonly onBegin: (listener: (until: number) => void) => Effect.Effect<void, never, Scope.Scope>
  readonly begin: (until: number) => Effect.Effect<void>
}

/** That the server stops: every door knows before the first of them closes. */
export class Stopping extends Context.Tag("@postilion/server/Stopping")<Stopping, StoppingShape>() {}

export const layer: Layer.Layer<Stopping> = Layer.sync(Stopping, () => {
  let begun: number | undefined
  const listeners = new Set<(until: number) => void>()
  return {
    until: () => begun,
    onBegin: (listener) =>
      Effect.acquireRelease(
        Effect.sync(() => void listeners.add(listener)),
        () => Effect.sync(() => void listeners.delete(listener))
      ),
    begin: (until) =>
      Effect.sync(() => {
        begun = until
        for (const listener of listeners) listener(until)
      })
  }
})

/** Waits in a finalizer: that cannot be interrupted, not by its timeouts either, so in a fiber of its own. */
export const inFinalizer = <A>(effect: Effect.Effect<A>): Effect.Effect<A> =>
  Effect.flatMap(Effect.forkDaemon(Effect.interruptible(effect)), Fiber.join)

/** Milliseconds an answer gets to leave, also where the deadline has passed. */
const FLUSH = 1_000

export interface ShutdownOptions {
  /** Milliseconds that runs under way get to finish. */
  readonly drainDeadlineMs: number
  /** Answers those who wait for a run that goes on past the deadline. */
  readonly release: Effect.Effect<void>
}

/**
 * What is done when the scope closes, before anything is closed: no door takes anything new, runs under way may finish within the
 * deadline, and requests under way are answered.
 */
export const onClose = ({ drainDeadlineMs, release }: ShutdownOptions) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const listener = yield* HttpListener
    const stopping = yield* Stopping
    const close = Effect.gen(function* () {
      const until = (yield* Clock.currentTimeMillis) + drainDeadlineMs
      yield* stopping.begin(until)
      yield* listener.retire
      const drained = yield* gateway.drain(drainDeadlineMs)
      if (!drained.finished) {
        yield* Effect.logWarning(
          `drainDeadlineMs (${drainDeadlineMs}) has passed; the next start tries again what still ran: ${drained.running}`
        )
      }
      yield* release
      const left = until - (yield* Clock.currentTimeMillis)
      yield* listener.settle(Math.max(left, FLUSH))
    })
    yield* Effect.addFinalizer(() => inFinalizer(close))
  })
