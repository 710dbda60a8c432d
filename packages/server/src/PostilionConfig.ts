import { GatewayConfigError } from "@postilion/gateway"
import { configError, GatewayConfig } from "@postilion/gateway/domain/Config"
import { Config, Effect, Option, Redacted, Schema } from "effect"
import { Callbacks } from "./CallbackChannel.ts"
import { OutsideConfig } from "./OutsideConfig.ts"
import { isSubnet } from "./Peers.ts"
import { PushConfig } from "./push/PushConfig.ts"
import { SCOPES } from "./Scopes.ts"
import { WebSocketConfig } from "./socket/WebSocketConfig.ts"

const withDefault = <A, I>(schema: Schema.Schema<A, I>, value: NoInfer<A>) =>
  Schema.optionalWith(schema, { default: () => value })

/** Longer timers fire at once. */
const LONGEST_TIMER = 2 ** 31 - 1
/** A body is held in memory, and becomes one string: that has its limit in the engine. */
const LONGEST_BODY = 2 ** 28

const Between = (least: number, most: number) =>
  Schema.Number.pipe(
    Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
    Schema.between(least, most, { message: ({ actual }) => `must be from ${least} to ${most}, got ${actual}` })
  )

/** What RFC 6750 lets a bearer token have; anything else could never arrive. */
const isToken = (text: string): boolean => /^[\w.~+/-]+=*$/.test(text)

const TOKEN_RULE = "a token has one or more letters, digits or -._~+/ and no spaces"

const Token = Schema.Union(Schema.RedactedFromSelf(Schema.String), Schema.Redacted(Schema.String)).pipe(
  Schema.filter((token) => isToken(Redacted.value(token)) || TOKEN_RULE)
)

const ScopedToken = Schema.Struct({ token: Token, scopes: Schema.NonEmptyArray(Schema.Literal(...SCOPES)) })

/** A token alone is an operator's. */
const TokenConfig = Schema.Union(
  Schema.transform(Token, Schema.typeSchema(ScopedToken), {
    decode: (token) => ({ token, scopes: ["operator"] as const }),
    encode: ({ token }) => token
  }),
  ScopedToken
)

const Tokens = Schema.Record({ key: Schema.String, value: TokenConfig }).pipe(
  Schema.filter((tokens) => {
    const names = Object.keys(tokens)
    if (names.includes("")) return "a token's principal needs a name"
    const distinct = new Set(Object.values(tokens).map(({ token }) => Redacted.value(token)))
    return distinct.size === names.length || `two of ${names.join(", ")} have the same token; give each its own`
  })
)

const Origin = Schema.String.pipe(
  Schema.filter(
    (text) => /^https?:\/\/[^/?#\s]+$/i.test(text) || `must be an origin such as https://example.com, got ${text}`
  )
)
const Host = Schema.String.pipe(
  Schema.filter(
    (text) =>
      /^(\[[\da-f:.]+\]|[\w.-]+)$/i.test(text) || `must be a name such as example.com, without a port, got ${text}`
  )
)
const Subnet = Schema.String.pipe(
  Schema.filter((text) => isSubnet(text) || `must be an address or a subnet such as 10.0.0.0/8, got ${text}`)
)

export const AuditConfig = Schema.Struct({
  /** A file with an Ed25519 private key in PEM (PKCS #8) that checkpoints are signed with. Default: nothing is signed. */
  signingKeyFile: Schema.optional(Schema.NonEmptyString),
  /** Records between two signed checkpoints. Default: 1,000. */
  checkpointEvery: withDefault(Between(2, 1_000_000), 1_000)
})
export type AuditConfig = typeof AuditConfig.Type

export const SslConfig = Schema.Struct({
  /** The certificate in PEM, with those that lead to its root after it. */
  cert: Schema.NonEmptyString,
  /** Its private key in PEM, without a passphrase. */
  key: Schema.NonEmptyString,
  /** Certificates in PEM of who issues clients' certificates; whoever has none from there gets no connection. Default: none is asked for. */
  clientCa: Schema.optional(Schema.NonEmptyString)
})

/** What a server is configured with: all of the gateway's keys, and its own. Every key has a default. */
export const PostilionConfig = Schema.Struct({
  ...GatewayConfig.fields,
  /** The SQLite file the records are in, or `:memory:`. Default: `./postilion.sqlite`. */
  storage: withDefault(Schema.NonEmptyString, "./postilion.sqlite"),
  /** The address the HTTP door listens at. Default: `127.0.0.1`, which other machines cannot reach. */
  host: withDefault(Schema.NonEmptyString, "127.0.0.1"),
  /** `0`: any that is free; `HttpAddress` says which. Default: 8765. */
  port: withDefault(Between(0, 65_535), 8765),
  /**
   * Bearer tokens by the name of who holds them: a token, which may do everything, or `{ token, scopes }`. That name is the
   * sender of what they say and the author of what they approve. Default: none; then only webhooks and the health checks are answered.
   */
  tokens: withDefault(Tokens, {}),
  /** Wrong tokens that may come from one address in a minute; then none from there is looked at until it is over. Default: 10. */
  maxFailedAttempts: withDefault(Between(1, 1_000_000), 10),
  /** Origins, besides the gateway's own, whose pages may ask: `https://console.example.com`. Default: none. */
  allowedOrigins: withDefault(Schema.Array(Origin), []),
  /** Names, besides the address it listens at, that the gateway is reached by: `ops.example.com`. Default: none. */
  allowedHosts: withDefault(Schema.Array(Host), []),
  /** Addresses and subnets (`10.0.0.0/8`) of the proxies whose `X-Forwarded-For` is believed. Default: none. */
  trustedProxies: withDefault(Schema.Array(Subnet), []),
  /** Files that make it HTTPS, and nothing else; looked at again every ten seconds. Default: none, it is HTTP. */
  ssl: Schema.optional(SslConfig),
  /** How the audit is signed. Default: not at all. */
  audit: Schema.optionalWith(AuditConfig, { default: () => Schema.decodeSync(AuditConfig)({}) }),
  /** Bytes an HTTP request's body may have; more is answered 413. Default: 1,048,576. */
  maxBodyBytes: withDefault(Between(1, LONGEST_BODY), 1_048_576),
  /** Milliseconds an HTTP request's body may take to arrive; longer is answered 408. Default: 10,000. */
  bodyTimeoutMs: withDefault(Between(1, LONGEST_TIMER), 10_000),
  /** Milliseconds that runs under way get to finish when the server stops; the rest is retried at the next start. Default: 30,000. */
  drainDeadlineMs: withDefault(Between(0, LONGEST_TIMER), 30_000),
  /** Places on the web that take answers, by the name that `deliverTo.channel` and a chat message's `replyTo` call them. Default: none. */
  callbacks: withDefault(Callbacks, {}),
  /** Agents that are programs of their own: they connect to `/ws` and take the runs from there. Default: none. */
  outside: withDefault(OutsideConfig, {}),
  /** The control plane at `/ws`. */
  webSocket: Schema.optionalWith(WebSocketConfig, { default: () => Schema.decodeSync(WebSocketConfig)({}) }),
  /** Channels that are published in and heard. */
  push: Schema.optionalWith(PushConfig, { default: () => Schema.decodeSync(PushConfig)({}) })
})
export type PostilionConfig = typeof PostilionConfig.Type
export type PostilionConfigInput = typeof PostilionConfig.Encoded

/** Checks a configuration and fills in its defaults. An unknown key is an error. */
export const decodeConfig = (input: unknown): Effect.Effect<PostilionConfig, GatewayConfigError> =>
  Schema.decodeUnknown(PostilionConfig, { onExcessProperty: "error" })(input).pipe(
    Effect.mapError(configError),
    Effect.tap(({ agents, outside }) => {
      const unknown = Object.keys(outside).find((id) => !Object.hasOwn(agents, id))
      if (unknown === undefined) return Effect.void
      const path = `outside.${unknown}`
      const message = `configuration: ${path}: there is no agent "${unknown}"; agents: ${Object.keys(agents).join(", ")}`
      return new GatewayConfigError({ path, message })
    })
  )

/** The operator's token in the environment variable `POSTILION_TOKEN`. An empty one is none that could be meant. */
export const environmentToken: Effect.Effect<Redacted.Redacted<string> | undefined, GatewayConfigError> = Effect.gen(
  function* () {
    const path = "POSTILION_TOKEN"
    const refuse = (problem: string) => new GatewayConfigError({ path, message: `configuration: ${path}: ${problem}` })
    const given = yield* Effect.mapError(Config.option(Config.redacted(path)), () => refuse("cannot be read"))
    if (Option.isNone(given)) return undefined
    return isToken(Redacted.value(given.value)) ? given.value : yield* refuse(`${TOKEN_RULE}; leave it unset for none`)
  }
)
