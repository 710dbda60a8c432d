import { type Approval, GatewayService } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Schema } from "effect"
import { json, orProblem } from "./HttpAnswers.ts"
import * as JsonBody from "./JsonBody.ts"

export interface ApprovalDoor {
  /** 200 `{ approvals }`: what waits for a person, each with all of what would run. */
  readonly list: Effect.Effect<Problem.HttpAnswer>
  /** 200 the approval, 404 there is none. */
  readonly show: (id: string) => Effect.Effect<Problem.HttpAnswer>
  /**
   * 200 `{ id, state, by, digest, approvers, votes }`; `state` stays `pending` until enough persons have approved. 404 there is
   * none, 409 it was decided by others, or what would run is not what was shown, 415 not JSON, 400 not JSON after all, 422 anything
   * in it but a digest. Without a body, the answer is to what the approval shows.
   */
  readonly approve: (
    id: string,
    principal: string,
    contentType: string | undefined,
    body: Uint8Array
  ) => Effect.Effect<Problem.HttpAnswer>
  /** As `approve`; takes no body. */
  readonly deny: ApprovalDoor["approve"]
}

const DIGEST = /^[0-9a-f]{64}$/
const Digest = Schema.String.pipe(
  Schema.filter((text) => DIGEST.test(text) || "must be the approval's digest, 64 hexadecimal digits")
)
/** Who answers, and what was approved, is for the server to say: closed, so that nothing else can be sent along. */
const readDigest = JsonBody.make(
  'an approval\'s answer is { "digest"?: string }',
  Schema.Struct({ digest: Schema.optional(Digest) })
)
const readNothing = JsonBody.make(
  "a denial has nothing in its body",
  Schema.Record({ key: Schema.String, value: Schema.Unknown }).pipe(
    Schema.filter((body) => Object.keys(body).length === 0 || `leave out ${Object.keys(body).join(", ")}`)
  )
)

const answered = ({ approvers, digest, id, state, votes }: Approval, by: string) =>
  json(200, { id, state, by, digest, approvers, votes })

/** What waits for a person, and what persons answer. */
export const make: Effect.Effect<ApprovalDoor, never, GatewayService> = Effect.map(GatewayService, (gateway) => ({
  list: orProblem(Effect.map(gateway.approvals, (approvals) => json(200, { approvals }))),
  show: (id) =>
    orProblem(
      Effect.map(gateway.approval(id), (approval) =>
        approval === undefined ? Problem.problem(404, `there is no approval "${id}"`) : json(200, approval)
      )
    ),
  approve: (id, principal, contentType, body) =>
    (body.length === 0 ? Effect.succeed({}) : readDigest(contentType, body)).pipe(
      Effect.flatMap((options) => gateway.approve(id, principal, options)),
      Effect.map((approval) => answered(approval, principal)),
      orProblem
    ),
  deny: (id, principal, contentType, body) =>
    (body.length === 0 ? Effect.void : readNothing(contentType, body)).pipe(
      Effect.zipRight(gateway.deny(id, principal)),
      Effect.map((approval) => answered(approval, principal)),
      orProblem
    )
}))
