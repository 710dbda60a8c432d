import type * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Redacted, Schema } from "effect"
import { answerOf } from "./Denied.ts"
import { json, orProblem } from "./HttpAnswers.ts"
import * as JsonBody from "./JsonBody.ts"
import type { Principal } from "./Principal.ts"
import { SCOPES } from "./Scopes.ts"
import { Tokens } from "./Tokens.ts"

export interface TokenDoor {
  /** 200 `{ tokens }`: those made at run time, newest first, without the tokens themselves. */
  readonly list: Effect.Effect<Problem.HttpAnswer>
  /**
   * 201 the token's record and, this once, the `token`. 403 it would be for more or for longer than the principal's own, 409 too
   * many, 415 not JSON, 400 not JSON after all, 422 not `{ name, scopes, expiresInSeconds? }`.
   */
  readonly create: (
    principal: Principal,
    contentType: string | undefined,
    body: Uint8Array
  ) => Effect.Effect<Problem.HttpAnswer>
  /** 200 the token's record, 404 there is none. It has stopped counting before the answer is sent. */
  readonly revoke: (id: string, principal: Principal) => Effect.Effect<Problem.HttpAnswer>
}

const LONGEST_NAME = 256
/** A hundred years. */
const LONGEST_LIFE = 3_155_760_000

const read = JsonBody.make(
  'a token is { "name": string, "scopes": [string], "expiresInSeconds"?: number }',
  Schema.Struct({
    name: Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_NAME)),
    scopes: Schema.NonEmptyArray(Schema.Literal(...SCOPES)).pipe(Schema.maxItems(SCOPES.length)),
    expiresInSeconds: Schema.optional(Schema.Number.pipe(Schema.int(), Schema.between(1, LONGEST_LIFE)))
  })
)

/** A token is in no cache. */
const NEVER_KEPT = { "cache-control": "no-store" }

/** Makes, lists and revokes tokens. */
export const make: Effect.Effect<TokenDoor, never, Tokens> = Effect.map(Tokens, (tokens) => ({
  list: orProblem(Effect.map(tokens.list, (all) => json(200, { tokens: all }))),
  create: (principal, contentType, body) =>
    read(contentType, body).pipe(
      Effect.flatMap((wanted) => tokens.create(principal, wanted)),
      Effect.map(({ made, token }) => json(201, { ...made, token: Redacted.value(token) }, NEVER_KEPT)),
      Effect.catchTag("Denied", (denied) => Effect.succeed(answerOf(denied))),
      orProblem
    ),
  revoke: (id, principal) => orProblem(Effect.map(tokens.revoke(id, principal.name), (token) => json(200, token)))
}))
