import { Data } from "effect"
import type { ErrorCode } from "./Protocol.ts"

/**
 * Something asked of the gateway did not happen, or nobody knows whether it did.
 *
 * `code` is the gateway's own (`Protocol.errors`), or the client's:
 * - `connection-lost`: the socket broke before the answer, and asking again could do it twice.
 * - `no-answer`: none came within `requestTimeoutMs`. `closed`: the client was closed.
 * - `too-many-requests`: as many wait for an answer as may. `not-understood`: what came is not of this protocol.
 * - `no-websocket`: there is none here, or none by this URL.
 */
export class ClientError extends Data.TaggedError("ClientError")<{
  readonly code:
    | ErrorCode
    | "connection-lost"
    | "no-answer"
    | "closed"
    | "too-many-requests"
    | "not-understood"
    | "no-websocket"
  readonly message: string
  readonly nextStep: string
  readonly retryAfterSeconds?: number
  readonly cause?: unknown
}> {}
