import type { Client } from "@postilion/client/Client"
import type { ClientError } from "@postilion/client/ClientError"
import type { Role } from "@postilion/client/Protocol"
import { Effect, type Scope } from "effect"
import type { Target } from "./Reach.ts"

/** A connection to the control plane, as the first of the roles that the token has. It outlives restarts of the gateway. */
export const connect = (
  target: Pick<Target, "token" | "url">,
  role: Role,
  ...others: ReadonlyArray<Role>
): Effect.Effect<Client, ClientError, Scope.Scope> =>
  Effect.flatMap(
    Effect.promise(() => import("@postilion/client/Client")),
    ({ make }) =>
      make(target.url.replace(/^http/, "ws"), {
        name: "postilion-cli",
        role,
        ...(target.token === undefined ? {} : { token: target.token })
      })
  ).pipe(
    Effect.catchAll((error) => {
      const [next, ...rest] = others
      return error.code === "forbidden" && next !== undefined ? connect(target, next, ...rest) : Effect.fail(error)
    })
  )
