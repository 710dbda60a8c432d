import type { GatewayError } from "./Errors.ts"

const TITLES = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable"
} as const

/** The statuses a door of the gateway refuses with. */
export type ProblemStatus = keyof typeof TITLES

/** An answer to an HTTP request, before any HTTP library has it. Header names are lower-case; `body` is JSON. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * A refusal as RFC 9457 writes it: `application/problem+json` with `type`, `title`, `status` and `detail`. `type` is
 * `about:blank`, which says that the status is the whole classification.
 *
 * `detail` is read by whoever sent the request: what was wrong, where, what to do; never a secret or a stack.
 */
export const problem = (
  status: ProblemStatus,
  detail: string,
  extra?: {
    readonly headers?: Readonly<Record<string, string>>
    /** Members beyond the four, such as `reason`. */
    readonly members?: Readonly<Record<string, string | number | boolean>>
  }
): HttpAnswer => ({
  status,
  headers: { ...extra?.headers, "content-type": "application/problem+json" },
  body: JSON.stringify({ ...extra?.members, type: "about:blank", title: TITLES[status], status, detail })
})

/** 405, with the methods that are answered here. */
export const methodNotAllowed = (method: string, allow: string): HttpAnswer =>
  problem(405, `${method} is not answered here; use ${allow}`, { headers: { allow } })

/** 413: the body has more than `maxBytes` bytes. */
export const payloadTooLarge = (maxBytes: number): HttpAnswer =>
  problem(413, `the body is larger than ${maxBytes} bytes; send less, or raise the limit`)

/** 429, with the seconds after which the next request is let in. */
export const tooManyRequests = (detail: string, retryAfterSeconds: number): HttpAnswer =>
  problem(429, detail, { headers: { "retry-after": String(retryAfterSeconds) } })

/** 500. What went wrong belongs in the log, not in the answer. */
export const internalError: HttpAnswer = problem(
  500,
  "the gateway failed to handle this request; its log says why. Sending it again may help"
)

/** What a `GatewayError` is answered: 503 with `retry-after` when it may pass, else 404, 409 or 422. */
export const ofGatewayError = (error: GatewayError): HttpAnswer => {
  const members = { reason: error.reason }
  switch (error.reason) {
    case "invalid-input":
      return problem(422, error.message, { members })
    case "not-found":
      return problem(404, error.message, { members })
    case "conflict":
      return problem(409, error.message, { members })
    default:
      return problem(
        503,
        // A storage error's message names files and tables: for the log.
        error.reason === "storage"
          ? "this could not be stored, so nothing of it happened; send it again"
          : error.message,
        { headers: { "retry-after": String(error.retryAfterSeconds) }, members }
      )
  }
}
