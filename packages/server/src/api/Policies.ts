import { PolicyEngine } from "@postilion/gateway"
import { Effect } from "effect"
import type { Handlers } from "./Operations.ts"
import { notFound } from "./Refusals.ts"

/** What decides, and what is only asked. */
export const policies = Effect.map(PolicyEngine, (engine) => {
  const live = () => engine.policies.map(({ _tag: policy, priority }) => ({ policy, priority }))
  return {
    list: () => Effect.sync(() => ({ policies: live(), shadows: engine.shadowReport() })),
    promote: ({ path: { policy } }) =>
      Effect.mapBoth(engine.promote(policy), {
        onSuccess: () => ({ policies: live() }),
        onFailure: ({ message }) => notFound(message)
      })
  } satisfies Handlers<"policies">
})
