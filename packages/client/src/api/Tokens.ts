import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { count } from "../internal/Fields.ts"
import { Role } from "../Protocol.ts"
import { Action, Instant, name, text } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unreadable } from "./Problem.ts"

const LONGEST_NAME = 256
/** A hundred years. */
const LONGEST_LIFE = 3_155_760_000

const stored = {
  id: Schema.String,
  name: text("The principal who holds it."),
  scopes: Schema.Array(Role),
  createdAt: Instant,
  createdBy: Schema.String,
  expiresAt: Schema.NullOr(Instant),
  revokedAt: Schema.NullOr(Instant),
  revokedBy: Schema.NullOr(Schema.String)
}
export const Token = Schema.Struct(stored).annotations({ identifier: "Token" })
const Made = Schema.Struct({ ...stored, token: text("Told this once.") }).annotations({ identifier: "MadeToken" })

export const NewToken = Schema.Struct({
  name: Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_NAME)),
  scopes: Schema.NonEmptyArray(Role).pipe(Schema.maxItems(Role.literals.length)),
  expiresInSeconds: Schema.optional(count(1, LONGEST_LIFE, "Default: as long as the token it is made with."))
}).annotations({ title: "a token" })

/** Tokens made at run time. */
export const Tokens = HttpApiGroup.make("tokens")
  .annotate(OpenApi.Description, "Tokens made at run time.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/tokens")
      .annotate(Action, "tokens.list")
      .annotate(OpenApi.Description, "Newest first, at most 1,000, without the tokens themselves.")
      .addSuccess(Schema.Struct({ tokens: Schema.Array(Token) }))
  )
  .add(
    HttpApiEndpoint.post("create", "/tokens")
      .annotate(Action, "tokens.create")
      .annotate(OpenApi.Description, "Makes one, for no more and for no longer than the token it is made with.")
      .setPayload(NewToken)
      .addSuccess(Made, { status: 201 })
      .addError(Conflict)
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.del("revoke", "/tokens/:tokenId")
      .annotate(Action, "tokens.revoke")
      .annotate(OpenApi.Description, "It has stopped counting before this is answered.")
      .setPath(Schema.Struct({ tokenId: name("The token's id.") }))
      .addSuccess(Token)
      .addError(NotFound)
  )
