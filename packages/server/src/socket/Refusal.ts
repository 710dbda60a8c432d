import { type ErrorCode, errors, type RpcError } from "@postilion/client/Protocol"
import { GatewayError, type StoreError } from "@postilion/gateway"
import { Data, Effect } from "effect"
import type { Denied } from "../Denied.ts"

/** Something that was asked is refused. `message` is read by whoever asked. */
export class Refusal extends Data.TaggedError("Refusal")<{
  readonly code: ErrorCode
  readonly message: string
  readonly retryAfterSeconds?: number
}> {}

export const toRpcError = ({ code, message, retryAfterSeconds }: Refusal): RpcError => {
  const { nextStep, number } = errors[code]
  return {
    code: number,
    message,
    data: { code, nextStep, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) }
  }
}

export const ofGatewayError = ({ message, reason, retryAfterSeconds }: GatewayError): Refusal => {
  switch (reason) {
    case "invalid-input":
      return new Refusal({ code: "invalid-params", message })
    case "not-found":
    case "conflict":
      return new Refusal({ code: reason, message })
    default:
      return new Refusal({
        code: "unavailable",
        // A storage error's message names files and tables: for the log.
        message: reason === "storage" ? "this could not be stored, so nothing of it happened" : message,
        retryAfterSeconds
      })
  }
}

/** Makes of every failure the refusal it is; one to do with storage is logged, since its answer does not tell. */
export const refused = <A>(
  effect: Effect.Effect<A, GatewayError | StoreError | Denied | Refusal>
): Effect.Effect<A, Refusal> =>
  Effect.catchAll(effect, (error) => {
    if (error instanceof Refusal) return error
    if (error._tag === "Denied") return new Refusal({ code: "forbidden", message: error.message })
    const known =
      error instanceof GatewayError ? error : new GatewayError({ reason: "storage", message: error.message })
    const refusal = ofGatewayError(known)
    return known.reason === "storage"
      ? Effect.zipRight(Effect.logError("a WebSocket request met a storage failure", error), refusal)
      : refusal
  })
