import { GatewayConfigError } from "@postilion/gateway"
import { GatewayConfig } from "@postilion/gateway/domain/Config"
import {
  between,
  LONGEST_TIMER,
  optional,
  required,
  Secret,
  section,
  withDefault
} from "@postilion/gateway/domain/ConfigFields"
import { problemError } from "@postilion/gateway/domain/ConfigProblem"
import { configError } from "@postilion/gateway/domain/ConfigProblems"
import { OneOf } from "@postilion/gateway/domain/OneOf"
import { Config, Effect, Option, Redacted, Schema } from "effect"
import { AgentConfig, agentProblems } from "./agents/AgentConfig.ts"
import { Channels } from "./Channels.ts"
import { FilePath } from "./config/FilePath.ts"
import { ObservabilityConfig } from "./Observability.ts"
import { OutsideConfig, outsideProblems } from "./OutsideConfig.ts"
import { isSubnet } from "./Peers.ts"
import { PushConfig } from "./push/PushConfig.ts"
import { SCOPES } from "./Scopes.ts"
import { WebSocketConfig } from "./socket/WebSocketConfig.ts"

/** A body is held in memory, and becomes one string: that has its limit in the engine. */
const LONGEST_BODY = 2 ** 28

/** What RFC 6750 lets a bearer token have; anything else could never arrive. */
const isToken = (text: string): boolean => /^[\w.~+/-]+=*$/.test(text)

const TOKEN_RULE = "a token has one or more letters, digits or -._~+/ and no spaces"

const Token = Secret.pipe(Schema.filter((token) => isToken(Redacted.value(token)) || TOKEN_RULE))

const ScopedToken = Schema.Struct({
  token: required(Token, "The token."),
  scopes: required(Schema.NonEmptyArray(OneOf(...SCOPES)), "What it is for; an operator may do everything.")
})

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
  signingKeyFile: optional(
    FilePath,
    "A file with an Ed25519 private key in PEM (PKCS #8) that checkpoints are signed with. Default: nothing is signed."
  ),
  checkpointEvery: withDefault(between(2, 1_000_000), 1_000, "Records between two signed checkpoints.")
})
export type AuditConfig = typeof AuditConfig.Type

export const SslConfig = Schema.Struct({
  cert: required(FilePath, "The certificate in PEM, with those that lead to its root after it."),
  key: required(FilePath, "Its private key in PEM, without a passphrase."),
  clientCa: optional(
    FilePath,
    "Certificates in PEM of who issues clients' certificates; whoever has none from there gets no connection. Default: none is asked for."
  )
})

const AGENT = { instructions: "", maxOutputTokens: 1024, modelTimeoutMs: 120_000 }

/** What a server is configured with: all of the gateway's keys, and its own. */
export const PostilionConfig = Schema.Struct({
  ...GatewayConfig.fields,
  agents: withDefault(
    Schema.Record({ key: Schema.String, value: AgentConfig }),
    { agent: AGENT },
    "By id. What names no agent, and no rule routes, is for the first. Default: one called `agent`."
  ),
  storage: withDefault(FilePath, "./postilion.sqlite", "The SQLite file the records are in, or `:memory:`."),
  host: withDefault(
    Schema.NonEmptyString,
    "127.0.0.1",
    "The address the HTTP door listens at. Other machines cannot reach `127.0.0.1`."
  ),
  port: withDefault(between(0, 65_535), 8765, "The port it listens at; `0` is any that is free."),
  tokens: withDefault(
    Tokens,
    {},
    "Bearer tokens by the name of who holds them: a token, which may do everything, or `{ token, scopes }`. That name is the sender of what they say and the author of what they approve."
  ),
  maxFailedAttempts: withDefault(
    between(1, 1_000_000),
    10,
    "Wrong tokens that may come from one address in a minute; then none from there is looked at until it is over."
  ),
  allowedOrigins: withDefault(
    Schema.Array(Origin),
    [],
    "Origins, besides the gateway's own, whose pages may ask: `https://console.example.com`."
  ),
  allowedHosts: withDefault(
    Schema.Array(Host),
    [],
    "Names, besides the address it listens at, that the gateway is reached by: `ops.example.com`."
  ),
  trustedProxies: withDefault(
    Schema.Array(Subnet),
    [],
    "Addresses and subnets (`10.0.0.0/8`) of the proxies whose `X-Forwarded-For` is believed."
  ),
  ssl: optional(
    SslConfig,
    "Files that make it HTTPS, and nothing else; looked at again every ten seconds. Default: none, it is HTTP."
  ),
  audit: section(AuditConfig, "How the audit is signed."),
  maxBodyBytes: withDefault(
    between(1, LONGEST_BODY),
    1_048_576,
    "Bytes an HTTP request's body may have; more is answered 413."
  ),
  bodyTimeoutMs: withDefault(
    between(1, LONGEST_TIMER),
    10_000,
    "Milliseconds an HTTP request's body may take to arrive; longer is answered 408."
  ),
  drainDeadlineMs: withDefault(
    between(0, LONGEST_TIMER),
    30_000,
    "Milliseconds that runs under way get to finish when the server stops; the rest is retried at the next start."
  ),
  channels: withDefault(
    Channels,
    {},
    "Ways out, by the name that `deliverTo.channel` and a chat message's `replyTo` call them. There may be several of one platform."
  ),
  outside: withDefault(
    OutsideConfig,
    {},
    "Agents that are programs of their own: they connect to `/ws` and take the runs from there."
  ),
  webSocket: section(WebSocketConfig, "The control plane at `/ws`."),
  observability: section(ObservabilityConfig, "What is written to the log, and how."),
  push: section(PushConfig, "Channels that are published in and heard.")
})
export type PostilionConfig = typeof PostilionConfig.Type
export type PostilionConfigInput = typeof PostilionConfig.Encoded

/** Checks a configuration and fills in its defaults. An unknown key is an error. */
export const decodeConfig = (input: unknown): Effect.Effect<PostilionConfig, GatewayConfigError> =>
  Schema.decodeUnknown(PostilionConfig, { onExcessProperty: "error" })(input).pipe(
    Effect.mapError(configError),
    Effect.tap(({ agents, outside }) => {
      const [problem] = [...agentProblems(agents), ...outsideProblems({ agents, outside })]
      return problem === undefined ? Effect.void : problemError(problem)
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
