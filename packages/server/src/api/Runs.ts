import { GatewayService } from "@postilion/gateway"
import { Effect } from "effect"
import { Access } from "../Access.ts"
import { isOpenTo } from "../Conversations.ts"
import type { Handlers } from "./Operations.ts"
import { invalid, notFound } from "./Refusals.ts"

/** What agents do. */
export const runs = Effect.gen(function* () {
  const gateway = yield* GatewayService
  const access = yield* Access
  return {
    list: ({ urlParams: { cursor, ...filter } }) =>
      cursor !== undefined && !/^run_\w{1,40}$/.test(cursor)
        ? invalid(`cursor: "${cursor}" is not the \`next\` of a page of runs`)
        : Effect.map(gateway.runs({ ...filter, before: cursor }), ({ next = null, runs }) => ({ runs, next })),
    show: ({ path: { id } }) =>
      Effect.flatMap(gateway.findRun(id), (found) =>
        found === undefined ? notFound(`there is no run "${id}"`) : Effect.succeed(found)
      ),
    abort: ({ path: { id } }, { principal }) =>
      gateway.abort(id, { by: principal.name, allowed: isOpenTo(access, principal, "run.abort.any") })
  } satisfies Handlers<"runs">
})
