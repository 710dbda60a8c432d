import type { IncomingMessage } from "node:http"
import * as Problem from "@postilion/gateway/domain/Problem"

export interface BodyLimits {
  readonly maxBodyBytes: number
  readonly bodyTimeoutMs: number
}

/**
 * Reads a request's body and gives it to `done`, or the refusal of one that is too large (413) or too slow (408). Calls
 * `done` at most once: not at all when the client goes away.
 *
 * What comes after a refusal is read and dropped until the time is up. A connection that is closed on a client that still
 * sends is reset, and the client never sees the answer.
 */
export const readBody = (
  request: IncomingMessage,
  { bodyTimeoutMs, maxBodyBytes }: BodyLimits,
  done: (body: Uint8Array | Problem.HttpAnswer) => void
): void => {
  let chunks: Array<Uint8Array> = []
  let bytes = 0
  let refused = false

  const refuse = (answer: Problem.HttpAnswer): void => {
    refused = true
    chunks = []
    done(answer)
  }
  const timer = setTimeout(() => {
    if (!refused) {
      refuse(
        Problem.problem(408, `the body took longer than ${bodyTimeoutMs} ms to arrive; send it faster, or less`, {
          headers: { connection: "close" }
        })
      )
    } else request.destroy()
  }, bodyTimeoutMs)

  request.on("data", (chunk: Uint8Array) => {
    bytes += chunk.length
    if (refused) return
    if (bytes > maxBodyBytes) refuse(Problem.payloadTooLarge(maxBodyBytes))
    else chunks.push(chunk)
  })
  request.on("end", () => {
    clearTimeout(timer)
    if (refused) return
    const [only] = chunks
    done(chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, bytes))
  })
  request.on("close", () => clearTimeout(timer))
  request.on("error", () => clearTimeout(timer))

  // Told before the first byte of the body is in.
  if (Number(request.headers["content-length"]) > maxBodyBytes) refuse(Problem.payloadTooLarge(maxBodyBytes))
}
