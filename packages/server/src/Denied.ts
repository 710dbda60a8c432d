import * as Problem from "@postilion/gateway/domain/Problem"
import { Data } from "effect"

const ANSWERS = {
  "token-missing": { status: 401, challenge: "Bearer" },
  "token-unknown": { status: 401, challenge: 'Bearer error="invalid_token"' },
  "token-in-query": { status: 400, challenge: 'Bearer error="invalid_request"' },
  "too-many-attempts": { status: 429, challenge: undefined },
  "wrong-host": { status: 403, challenge: undefined },
  "wrong-origin": { status: 403, challenge: undefined },
  "not-allowed": { status: 403, challenge: 'Bearer error="insufficient_scope"' }
} as const satisfies Readonly<Record<string, { status: Problem.ProblemStatus; challenge: string | undefined }>>

export type DeniedReason = keyof typeof ANSWERS

/** A request was refused for who asks, or from where. `message` says what to do, and never has a token in it. */
export class Denied extends Data.TaggedError("Denied")<{
  readonly reason: DeniedReason
  readonly message: string
  /** Of `too-many-attempts`: seconds until the next one is looked at. */
  readonly retryAfterSeconds?: number
}> {
  get retryable(): boolean {
    return this.reason === "too-many-attempts"
  }
}

/** What an HTTP request that was denied is answered. */
export const answerOf = ({ message, reason, retryAfterSeconds }: Denied): Problem.HttpAnswer => {
  const { challenge, status } = ANSWERS[reason]
  return Problem.problem(status, message, {
    headers: {
      ...(challenge === undefined ? {} : { "www-authenticate": challenge }),
      ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) })
    },
    members: { reason }
  })
}
