import { Effect } from "effect"
import { supervise } from "../internal/Supervisor.ts"
import { EventBus } from "../records/EventBus.ts"
import { PolicyEngine } from "./PolicyEngine.ts"

/** Runs `recheck` after whatever changes what policies see: an end, a switch, another policy. Once for what changes while it runs. */
export const make = (recheck: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const bus = yield* EventBus
    const engine = yield* PolicyEngine
    let stale = false
    let wake: (() => void) | undefined
    const becomeStale = (): void => {
      stale = true
      wake?.()
    }
    yield* bus.listen((event) => {
      if (event._tag === "ProactiveActionCompleted" || event._tag === "SwitchChanged") becomeStale()
    })
    yield* engine.onChange(becomeStale)
    const changed = Effect.async<void>((resume) => {
      if (stale) return resume(Effect.void)
      wake = () => resume(Effect.void)
      return Effect.sync(() => {
        wake = undefined
      })
    })
    const once = Effect.suspend(() => {
      stale = false
      return Effect.onError(recheck, () => Effect.sync(becomeStale))
    })
    yield* supervise("recheck", Effect.forever(Effect.zipRight(changed, once)))
  })
