import { createHash, timingSafeEqual } from "node:crypto"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Context, Data, Effect, Either, Layer, Redacted, type Scope } from "effect"
import * as Attempts from "./Attempts.ts"
import { HttpAddress, type HttpHead } from "./HttpListener.ts"
import * as Origins from "./Origins.ts"
import { makePeerOf } from "./Peers.ts"
import * as Scopes from "./Scopes.ts"

/** Who asks, as their token proves it. */
export interface Principal {
  /** The sender of what they say and the author of what they approve. */
  readonly name: string
  readonly scopes: ReadonlyArray<Scopes.Scope>
  /** Which token that was; the name of one from the configuration, `config:<name>`. */
  readonly tokenId: string
}

const STATUS = {
  "token-missing": 401,
  "token-unknown": 401,
  "token-in-query": 400,
  "too-many-attempts": 429,
  "wrong-host": 403,
  "wrong-origin": 403,
  "not-allowed": 403
} as const satisfies Readonly<Record<string, Problem.ProblemStatus>>

/** A request was refused for who asks, or from where. `message` says what to do, and never has a token in it. */
export class Denied extends Data.TaggedError("Denied")<{
  readonly reason: keyof typeof STATUS
  readonly message: string
  /** Of `too-many-attempts`: seconds until the next one is looked at. */
  readonly retryAfterSeconds?: number
}> {}

/** What an HTTP request that was denied is answered. */
export const answerOf = ({ message, reason, retryAfterSeconds }: Denied): Problem.HttpAnswer => {
  const challenge = {
    "token-missing": "Bearer",
    "token-unknown": 'Bearer error="invalid_token"',
    "token-in-query": 'Bearer error="invalid_request"',
    "not-allowed": 'Bearer error="insufficient_scope"'
  } as const
  return Problem.problem(STATUS[reason], message, {
    headers: {
      ...(reason in challenge ? { "www-authenticate": challenge[reason as keyof typeof challenge] } : {}),
      ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) })
    },
    members: { reason }
  })
}

export interface AccessShape {
  /** Who holds this token. `address` is where it came from, as `addressOf` says: wrong ones are counted by it. */
  readonly authenticate: (token: string | undefined, address: string) => Either.Either<Principal, Denied>
  readonly allows: (principal: Principal, action: Scopes.Action) => boolean
  /** Whether a request with this `Host` and `Origin` is meant for this gateway, and comes from no page that may not ask. */
  readonly checkOrigin: (headers: HttpHead["headers"]) => Either.Either<void, Denied>
  /** A token in a query ends up in logs and histories, so a request that has one is refused, whatever else it has. */
  readonly checkQuery: (query: string) => Either.Either<void, Denied>
  /** Who sent it: the peer, or where the peer is a trusted proxy, whom it names. */
  readonly addressOf: (head: Pick<HttpHead, "peer" | "headers">) => string
  /** All of it, for a request with a bearer token: who asks, if they may do this. */
  readonly admit: (head: HttpHead, action: Scopes.Action) => Either.Either<Principal, Denied>
  /** Calls `listener` with the `tokenId` of each token that stops counting, until the scope closes. */
  readonly onRevoked: (listener: (tokenId: string) => void) => Effect.Effect<void, never, Scope.Scope>
}

/** The one authorization, for every door. Wherever a request comes from, one without a token is refused. */
export class Access extends Context.Tag("@postilion/server/Access")<Access, AccessShape>() {}

/** A token of the configuration, and what for. */
export interface ConfiguredToken {
  readonly token: Redacted.Redacted<string>
  readonly scopes: ReadonlyArray<Scopes.Scope>
}

export interface AccessOptions extends Origins.OriginOptions {
  /** By the name of who holds them. */
  readonly tokens: Readonly<Record<string, ConfiguredToken>>
  /** Addresses and subnets of proxies whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: ReadonlyArray<string>
  /** Wrong tokens from one address in a minute; then none from there is looked at until it is over. */
  readonly maxFailedAttempts: number
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()
const deny = (reason: Denied["reason"], message: string) => Either.left(new Denied({ reason, message }))

const MISSING = "this needs a token; send the header `Authorization: Bearer <token>`"
const UNKNOWN = "there is no such token; tokens are set by `tokens`"
const NO_TOKENS =
  'this needs a token, and none is configured; set `tokens: { <name>: "<token>" }`, then send `Authorization: Bearer <token>`'
const IN_QUERY =
  "a token in the query is not read, since addresses are kept in logs and histories: send the header `Authorization: Bearer <token>`, and replace that token"

const make = ({ maxFailedAttempts, tokens, trustedProxies, ...options }: AccessOptions) =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const origin = Origins.make(options, yield* HttpAddress)
    const attempts = Attempts.make(maxFailedAttempts)
    const peerOf = makePeerOf(trustedProxies)
    const listeners = new Set<(tokenId: string) => void>()
    const configured = Object.entries(tokens).map(([name, { scopes, token }]) => ({
      digest: digest(Redacted.value(token)),
      principal: { name, scopes, tokenId: `config:${name}` }
    }))

    /** Every token is compared, each in constant time, so that how long it takes tells nothing. */
    const find = (token: string): Principal | undefined => {
      const given = digest(token)
      let found: Principal | undefined
      for (const { digest, principal } of configured) if (timingSafeEqual(digest, given)) found = principal
      return found
    }
    const authenticate: AccessShape["authenticate"] = (token, address) => {
      if (configured.length === 0) return deny("token-missing", NO_TOKENS)
      if (token === undefined || token === "") return deny("token-missing", MISSING)
      const now = clock.unsafeCurrentTimeMillis()
      const retryAfterSeconds = attempts.blockedFor(address, now)
      if (retryAfterSeconds > 0) {
        const message = `${maxFailedAttempts} wrong tokens came from this address; it may try again in ${retryAfterSeconds} s`
        return Either.left(new Denied({ reason: "too-many-attempts", message, retryAfterSeconds }))
      }
      const principal = find(token)
      if (principal !== undefined) return Either.right(principal)
      attempts.failed(address, now)
      return deny("token-unknown", UNKNOWN)
    }
    const checkOrigin: AccessShape["checkOrigin"] = (headers) => {
      const problem = origin(headers)
      return problem === undefined ? Either.void : deny(problem.reason, problem.message)
    }
    const checkQuery: AccessShape["checkQuery"] = (query) =>
      /(?:^|&)(?:access_)?token=/i.test(query) ? deny("token-in-query", IN_QUERY) : Either.void
    const addressOf: AccessShape["addressOf"] = ({ headers, peer }) => peerOf(peer, headers["x-forwarded-for"])
    const allows: AccessShape["allows"] = ({ scopes }, action) => Scopes.allow(scopes, action)

    return Access.of({
      authenticate,
      allows,
      checkOrigin,
      checkQuery,
      addressOf,
      admit: (head, action) =>
        Either.gen(function* () {
          yield* checkOrigin(head.headers)
          yield* checkQuery(head.query)
          const token = /^bearer +(\S+) *$/i.exec(head.headers.authorization ?? "")?.[1]
          const principal = yield* authenticate(token, addressOf(head))
          if (allows(principal, action)) return principal
          const held = principal.scopes.join(", ")
          return yield* deny("not-allowed", `${principal.name}'s token is for ${held}; that does not include ${action}`)
        }),
      onRevoked: (listener) =>
        Effect.acquireRelease(
          Effect.sync(() => void listeners.add(listener)),
          () => Effect.sync(() => void listeners.delete(listener))
        )
    })
  })

export const layer = (options: AccessOptions): Layer.Layer<Access, never, HttpAddress> =>
  Layer.effect(Access, make(options))
