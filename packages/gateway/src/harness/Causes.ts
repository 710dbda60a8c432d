import { Effect } from "effect"
import { GatewayError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { StoreShape } from "../records/Store.ts"

/** Where an event that a run causes comes in its chain. */
export type Cause = Pick<NonNullable<GatewayEvent["chain"]>, "root" | "depth">

/** Where the consequences of this run come. Fails with `invalid-input` when there is no such run. */
export const causeOf = (store: StoreShape, runId: string): Effect.Effect<Cause, GatewayError> =>
  Effect.gen(function* () {
    const [run] = yield* store.find("runs", { where: { id: runId } })
    const [cause] = run === undefined ? [] : yield* store.find("events", { where: { id: run.event_id } })
    return cause && { root: cause.chain_root ?? cause.id, depth: cause.chain_depth + 1 }
  }).pipe(
    Effect.mapError((cause) => new GatewayError({ reason: "storage", message: cause.message, cause })),
    Effect.flatMap((cause) =>
      cause === undefined
        ? new GatewayError({ reason: "invalid-input", message: `causedBy: there is no run "${runId}"` })
        : Effect.succeed(cause)
    )
  )
