import { type ErrorCode, errors, type RpcError } from "@postilion/client/Protocol"
import type { GatewayError } from "@postilion/gateway"
import { Data } from "effect"

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
