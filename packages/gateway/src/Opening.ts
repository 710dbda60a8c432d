import { Effect, Fiber, Layer } from "effect"
import { Admission } from "./harness/Admission.ts"
import { CrashLoop } from "./runs/CrashLoop.ts"
import { Dispatcher } from "./runs/Dispatcher.ts"
import { Outbox } from "./runs/Outbox.ts"
import { Scheduler } from "./sources/Scheduler.ts"

/**
 * Takes up what an earlier process left, and has jobs fire: once everything has started, since what that leads to needs all of
 * it. Before anything stops, nothing new begins any more; who wants to wait for what runs drains the gateway first.
 */
export const layer = Layer.scopedDiscard(
  Effect.gen(function* () {
    const admission = yield* Admission
    const dispatcher = yield* Dispatcher
    const outbox = yield* Outbox
    const scheduler = yield* Scheduler
    const crashLoop = yield* CrashLoop
    const end = Effect.zipRight(admission.close, Effect.all([dispatcher.drain, outbox.drain], { concurrency: 2 }))
    yield* Effect.addFinalizer(() =>
      Effect.flatMap(Effect.forkDaemon(Effect.interruptible(Effect.timeoutOption(end, 0))), Fiber.join)
    )
    yield* outbox.resume
    yield* dispatcher.resume
    yield* admission.resume
    if (crashLoop.held() === undefined) yield* scheduler.start
  })
)
