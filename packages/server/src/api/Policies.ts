import { AuditLog, Journal, PolicyEngine } from "@postilion/gateway"
import { Effect } from "effect"
import type { Handlers } from "./Operations.ts"
import { notFound } from "./Refusals.ts"

/** What decides, and what is only asked. */
export const policies = Effect.gen(function* () {
  const engine = yield* PolicyEngine
  const journal = yield* Journal
  const audit = yield* AuditLog
  const live = () => engine.policies.map(({ _tag: policy, priority }) => ({ policy, priority }))

  return {
    list: () => Effect.sync(() => ({ policies: live(), shadows: engine.shadowReport() })),
    promote: ({ path: { policy } }, { principal: { name: by } }) =>
      Effect.gen(function* () {
        yield* Effect.mapError(engine.promote(policy), ({ message }) => notFound(message))
        yield* journal.step((tx) => audit.append(tx, { kind: "policy.promoted", data: { policy, by } }))
        return { policies: live() }
      })
  } satisfies Handlers<"policies">
})
