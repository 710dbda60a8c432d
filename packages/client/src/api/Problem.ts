import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Data, Schema } from "effect"
import { Members } from "./Fields.ts"

/**
 * The gateway refused a request: an RFC 9457 problem. `detail` says what was wrong, and what to do; `reason` is stable, where there
 * is one; `members` has what else the problem says.
 */
export class ApiProblem extends Data.TaggedError("ApiProblem")<{
  readonly status: number
  readonly title: string
  readonly detail: string
  readonly reason?: string
  readonly members: Readonly<Record<string, unknown>>
}> {
  override get message(): string {
    return this.detail
  }
}

const Written = Schema.Struct(
  {
    type: Schema.String.annotations({ description: "`about:blank`: the status is the whole classification." }),
    title: Schema.String,
    status: Schema.Int,
    detail: Schema.String.annotations({ description: "What was wrong, where, and what to do." }),
    reason: Schema.optional(Schema.String.annotations({ description: "Stable, where the status does not say it all." }))
  },
  Members
).annotations({ identifier: "Problem", description: "A refusal as RFC 9457 writes it." })

/** A refusal as the gateway writes it, and as a failure. */
export const Problem = Schema.transform(Written, Schema.instanceOf(ApiProblem), {
  strict: true,
  decode: ({ detail, reason, status, title, type: _, ...members }) =>
    new ApiProblem({ status, title, detail, members, ...(reason === undefined ? {} : { reason }) }),
  encode: ({ detail, members, reason, status, title }) => ({
    ...members,
    type: "about:blank",
    title,
    status,
    detail,
    ...(reason === undefined ? {} : { reason })
  })
}).pipe(HttpApiSchema.withEncoding({ kind: "Json", contentType: "application/problem+json" }))

const problem = (status: number, description: string) =>
  Problem.annotations({ ...HttpApiSchema.annotations({ status }), description })

export const NotFound = problem(404, "There is nothing of this name.")
export const Conflict = problem(409, "As it stands, this cannot be done.")
export const Unprocessable = problem(422, "What was sent is well-formed, and means nothing here.")
export const Failed = problem(500, "The gateway failed to handle this request.")
export const Unavailable = problem(503, "Not now: `Retry-After` says when.")

/** What any operation that needs a token may be refused with. */
export const Refused = Schema.Union(
  problem(400, "The request is malformed, or has a token in its query."),
  problem(401, "There is no token, or it is none that counts."),
  problem(403, "The token is not for this, or the request comes from where it may not."),
  problem(429, "Too many wrong tokens came from this address: `Retry-After` says when it may try again."),
  Failed,
  Unavailable
)

/** What a request with a body may be refused with besides. */
export const Unreadable = Schema.Union(
  problem(408, "The body took too long to arrive."),
  problem(413, "The body is too large."),
  problem(415, "The body is not said to be of the type it has to be."),
  Unprocessable
)
