import { timingSafeEqual } from "node:crypto"
import { GatewayConfigError } from "@postilion/gateway"
import { Clock, Context, Effect, Either, Layer, Redacted, type Scope } from "effect"
import * as Attempts from "./Attempts.ts"
import { Denied, type DeniedReason } from "./Denied.ts"
import { HttpAddress, type HttpHead } from "./HttpListener.ts"
import * as Origins from "./Origins.ts"
import { makePeerOf } from "./Peers.ts"
import type { Principal } from "./Principal.ts"
import * as Scopes from "./Scopes.ts"
import { digest, Tokens } from "./Tokens.ts"

export { answerOf, Denied } from "./Denied.ts"
export type { Principal } from "./Principal.ts"

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
  /** Takes other configured tokens in place of those there are. Connections that go by one that is gone, or is for something else now, are closed. */
  readonly reconfigure: (tokens: AccessOptions["tokens"]) => void
  /** Calls `listener` with the `tokenId` of each token that was revoked, or has expired, until the scope closes. */
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
  /** An operator's, from the environment. */
  readonly environmentToken: Redacted.Redacted<string> | undefined
  /** Addresses and subnets of proxies whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: ReadonlyArray<string>
  /** Wrong tokens from one address in a minute; then none from there is looked at until it is over. */
  readonly maxFailedAttempts: number
}

const ENVIRONMENT: Principal = { name: "operator", scopes: ["operator"], tokenId: "env:POSTILION_TOKEN" }

const deny = (reason: DeniedReason, message: string) => Either.left(new Denied({ reason, message }))

const MISSING = 'this needs a token: set `tokens: { <name>: "<token>" }`, then send `Authorization: Bearer <token>`'
const UNKNOWN = "there is no such token, or it does not count any more"
const IN_QUERY =
  "a token in the query is not read, since addresses are kept in logs and histories: send `Authorization: Bearer <token>`, and replace that token"

const make = ({ environmentToken, maxFailedAttempts, tokens, trustedProxies, ...options }: AccessOptions) =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const address = yield* HttpAddress
    const stored = yield* Tokens
    const origin = Origins.make(options, address)
    const attempts = Attempts.make(maxFailedAttempts)
    const peerOf = makePeerOf(trustedProxies)
    const listeners = new Set<(tokenId: string) => void>()
    const known = (tokens: AccessOptions["tokens"]) => {
      const given = Object.entries(tokens).map(([name, { scopes, token }]): readonly [Principal, typeof token] => [
        { name, scopes, tokenId: `config:${name}` },
        token
      ])
      if (environmentToken !== undefined) given.push([ENVIRONMENT, environmentToken])
      return given.map(([principal, token]) => ({ principal, digest: digest(Redacted.value(token)) }))
    }
    let configured = known(tokens)
    if (!address.loopback && configured.length === 0 && stored.count(yield* Clock.currentTimeMillis) === 0) {
      return yield* new GatewayConfigError({
        path: "host",
        message: `configuration: host: other machines can reach ${address.host}, and nobody has a token; set \`tokens\`, or POSTILION_TOKEN in the environment, or listen at 127.0.0.1`
      })
    }

    /** Every token of the configuration is compared, each in constant time, so that how long it takes tells nothing. */
    const find = (token: string, now: number): Principal | undefined => {
      const given = digest(token)
      let found = stored.find(token, now)
      for (const { digest, principal } of configured) if (timingSafeEqual(digest, given)) found = principal
      return found
    }
    const authenticate: AccessShape["authenticate"] = (token, from) => {
      if (token === undefined || token === "") return deny("token-missing", MISSING)
      const now = clock.unsafeCurrentTimeMillis()
      const retryAfterSeconds = attempts.blockedFor(from, now)
      if (retryAfterSeconds > 0) {
        const message = `${maxFailedAttempts} wrong tokens came from this address; it may try again in ${retryAfterSeconds} s`
        return Either.left(new Denied({ reason: "too-many-attempts", message, retryAfterSeconds }))
      }
      const principal = find(token, now)
      if (principal !== undefined) return Either.right(principal)
      attempts.failed(from, now)
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
      reconfigure: (tokens) => {
        const before = configured
        configured = known(tokens)
        for (const { digest, principal } of before) {
          const now = configured.find((one) => one.principal.tokenId === principal.tokenId)
          const same = now?.digest.equals(digest) === true && now.principal.scopes.join() === principal.scopes.join()
          if (!same) for (const listener of listeners) listener(principal.tokenId)
        }
      },
      onRevoked: (listener) =>
        Effect.zipRight(
          stored.onEnd(listener),
          Effect.acquireRelease(
            Effect.sync(() => void listeners.add(listener)),
            () => Effect.sync(() => void listeners.delete(listener))
          )
        )
    })
  })

/** Fails with a `GatewayConfigError` (path `host`) where other machines reach the gateway, and nobody has a token. */
export const layer = (options: AccessOptions): Layer.Layer<Access, GatewayConfigError, HttpAddress | Tokens> =>
  Layer.effect(Access, make(options))
