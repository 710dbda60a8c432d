import { Deferred, Effect, Exit, type Fiber } from "effect"
import type { AgentRunError } from "../domain/Errors.ts"
import type { RunResult } from "../domain/Run.ts"
import type { RunExit } from "./RunExit.ts"

/**
 * How an attempt came to its end: `cut` says why, when `watch` had it interrupted; `stopped`, that the fiber it was run in
 * was.
 */
export type Outcome = {
  readonly cut: AgentRunError | undefined
  readonly stopped: boolean
} /** It is over for certain: nothing of it goes on. */ & (
  | { readonly _tag: "Ended"; readonly exit: RunExit }
  /** It was interrupted, and went on all the same for longer than it may: what it still comes to is `late`. */
  | { readonly _tag: "Stuck"; readonly late: Effect.Effect<RunExit> }
)

export interface AttemptOptions {
  /** Of the uninterruptible region this is run in: where it may be interrupted. */
  readonly restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** Succeeds, with the reason, when the attempt is to be interrupted. */
  readonly watch: Effect.Effect<AgentRunError>
  /** Goes on for as long as the attempt does. */
  readonly beside: Effect.Effect<unknown>
  /** Milliseconds an interrupted attempt may take to end. */
  readonly graceMs: number
}

/** A signal that says `value` when the fiber ends, unless it has said something else by then. */
const endOf = <A>(fiber: Fiber.RuntimeFiber<RunResult, AgentRunError>, value: A) =>
  Effect.map(Deferred.make<A>(), (signal) => {
    fiber.addObserver(() => Deferred.unsafeDone(signal, Exit.succeed(value)))
    return signal
  })

/**
 * Runs one attempt, and is done only when its fiber is: an attempt that is interrupted, by `watch` or with the fiber that
 * runs this, is waited for, so that it never goes on while the next one starts. One that ignores its interruption for
 * `graceMs` is let go of as `Stuck`.
 */
export const run = (call: Effect.Effect<RunResult, AgentRunError>, options: AttemptOptions): Effect.Effect<Outcome> =>
  Effect.gen(function* () {
    // Daemons, since a fiber waits for its children without end.
    const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkDaemon(Effect.interruptible(effect))
    const fiber = yield* fork(call)
    const beside = yield* fork(options.beside)
    const first = yield* endOf<AgentRunError | undefined>(fiber, undefined)
    const watch = yield* fork(Effect.flatMap(options.watch, (cut) => Deferred.succeed(first, cut)))
    const told = yield* Effect.exit(options.restore(Deferred.await(first)))
    yield* watch.interruptAsFork(watch.id())
    const stopped = Exit.isFailure(told)
    const cut = Exit.isSuccess(told) ? told.value : undefined
    const ended = yield* endOf<boolean>(fiber, true)
    if (fiber.unsafePoll() === null) {
      yield* fiber.interruptAsFork(fiber.id())
      const deadline = yield* fork(Effect.zipRight(Effect.sleep(options.graceMs), Deferred.succeed(ended, false)))
      yield* Deferred.await(ended)
      yield* deadline.interruptAsFork(deadline.id())
    }
    yield* beside.interruptAsFork(beside.id())
    const exit = fiber.unsafePoll()
    return exit === null ? { _tag: "Stuck", cut, stopped, late: fiber.await } : { _tag: "Ended", cut, stopped, exit }
  })
