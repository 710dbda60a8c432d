import { GatewayService } from "@postilion/gateway"
import { Effect } from "effect"
import { Access } from "../Access.ts"
import { isOpenTo } from "../Conversations.ts"
import type { Handlers } from "./Operations.ts"

/** What agents do. */
export const runs = Effect.gen(function* () {
  const gateway = yield* GatewayService
  const access = yield* Access
  return {
    abort: ({ path: { id } }, { principal }) =>
      gateway.abort(id, { by: principal.name, allowed: isOpenTo(access, principal, "run.abort.any") })
  } satisfies Handlers<"runs">
})
