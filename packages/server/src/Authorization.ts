import { createHash, timingSafeEqual } from "node:crypto"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Either, Redacted } from "effect"

/** Bearer tokens by the name of the principal who holds them. */
export type Tokens = Readonly<Record<string, Redacted.Redacted<string>>>

/** Who asks: the principal's name, or what the request is answered. */
export type Authorize = (authorization: string | undefined) => Either.Either<string, Problem.HttpAnswer>

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const refuse = (challenge: string, detail: string) =>
  Either.left(Problem.problem(401, detail, { headers: { "www-authenticate": challenge } }))

const NO_TOKENS =
  'this needs a token, and none is configured; set `tokens: { <name>: "<token>" }`, then send `Authorization: Bearer <token>`'
const MISSING = "this needs a token; send the header `Authorization: Bearer <token>`"
const UNKNOWN = "there is no such token; tokens are set by `tokens`"

/**
 * The one authorization function, for every door: a principal is who holds its token. Wherever a request comes from, one
 * without a token is refused; a token anywhere but in the `Authorization` header does not count.
 *
 * Every token is compared, each in constant time, so that how long it takes tells nothing.
 */
export const make = (tokens: Tokens): Authorize => {
  const known = Object.entries(tokens).map(([name, token]) => ({ name, digest: digest(Redacted.value(token)) }))
  return (authorization) => {
    if (known.length === 0) return refuse("Bearer", NO_TOKENS)
    const token = /^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1]
    if (token === undefined) return refuse("Bearer", MISSING)
    const given = digest(token)
    let principal: string | undefined
    for (const { digest, name } of known) if (timingSafeEqual(digest, given)) principal = name
    return principal === undefined ? refuse('Bearer error="invalid_token"', UNKNOWN) : Either.right(principal)
  }
}
