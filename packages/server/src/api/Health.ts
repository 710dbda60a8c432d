import { Effect } from "effect"
import * as Readiness from "../Readiness.ts"
import type { Handlers } from "./Operations.ts"

/** What is asked by whatever keeps this process running. `draining`: whether the gateway stops. */
export const health = (draining: () => boolean) =>
  Effect.map(
    Readiness.make(draining),
    (ready) =>
      ({
        live: () => Effect.succeed({ status: "ok" }),
        started: () => Effect.succeed({ status: "started" }),
        ready: () => ready
      }) satisfies Handlers<"health">
  )
