import * as Command from "@effect/cli/Command"
import type { PostilionConfig } from "@postilion/server"
import { Effect, Redacted } from "effect"
import { type Loaded, load, originOf, writtenSecrets } from "../Configuration.ts"
import { failed } from "../Failure.ts"
import * as Files from "../Files.ts"
import * as Flags from "../Flags.ts"
import { paint, print, printJson, type Style } from "../Output.ts"

const SEVERITIES = ["critical", "high", "medium", "low"] as const
type Severity = (typeof SEVERITIES)[number]

/** Something that could be used against the gateway, and what to do about it. */
export interface Finding {
  readonly severity: Severity
  /** The key of the configuration, or the file. */
  readonly where: string
  readonly what: string
  readonly cure: string
}

const finding = (severity: Severity, where: string, what: string, cure: string): Finding => ({
  severity,
  where,
  what,
  cure
})

/** Characters a secret has at least, of those that nobody guesses. */
const LONG_TOKEN = 24
const LONG_SECRET = 16
const isWeak = (secret: string, least: number): boolean =>
  secret.length < least || new Set(secret).size < 8 || /password|secret|changeme|example|t0ken|token/i.test(secret)

const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || /^127\./.test(host)

const tokens = ({ tokens }: PostilionConfig): ReadonlyArray<Finding> =>
  Object.entries(tokens).flatMap(([name, { scopes, token }]) => [
    ...(isWeak(Redacted.value(token), LONG_TOKEN)
      ? [
          finding(
            scopes.includes("operator") ? "critical" : "high",
            `tokens.${name}`,
            "this token can be guessed",
            "use one of 32 random bytes: `openssl rand -base64 32`"
          )
        ]
      : []),
    ...(scopes.includes("operator") && Object.keys(tokens).length > 3
      ? [finding("low", `tokens.${name}`, "may do everything", "give it the `scopes` it needs")]
      : [])
  ])

const doors = ({ allowedOrigins, host, ssl, trustedProxies }: PostilionConfig): ReadonlyArray<Finding> => [
  ...(isLoopback(host) || ssl !== undefined
    ? []
    : [
        finding(
          trustedProxies.length > 0 ? "medium" : "critical",
          "host",
          `at ${host} other machines reach it, and tokens cross the network in the clear`,
          "set `ssl`, or listen at 127.0.0.1 behind a proxy that speaks TLS"
        )
      ]),
  ...trustedProxies
    .filter((subnet) => /\/0$/.test(subnet))
    .map((subnet) =>
      finding(
        "high",
        "trustedProxies",
        `${subnet} is everyone: anybody may say which address they come from`,
        "name your proxies"
      )
    ),
  ...allowedOrigins
    .filter((origin) => /^http:/i.test(origin) && !isLoopback(new URL(origin).hostname))
    .map((origin) =>
      finding("medium", "allowedOrigins", `pages of ${origin} can be changed on their way`, "use an https origin")
    )
]

const webhooks = ({ host, webhooks }: PostilionConfig): ReadonlyArray<Finding> =>
  webhooks.flatMap(({ adapter, path, secret, timestampHeader, unsigned }, i) => {
    const where = `webhooks[${i}] (${path})`
    if (unsigned && secret === undefined) {
      const severity = isLoopback(host) ? "medium" : "high"
      return [
        finding(severity, where, "takes events from anybody who finds it", "set `secret`, and take `unsigned` out")
      ]
    }
    return [
      ...(secret !== undefined && isWeak(Redacted.value(secret), LONG_SECRET)
        ? [finding("high", where, "its secret can be guessed", "use a random one: `openssl rand -hex 32`")]
        : []),
      ...(adapter === "generic" && timestampHeader === undefined
        ? [
            finding(
              "low",
              where,
              "who sees a signed request can send it again",
              "set `timestampHeader`, if its sender has one"
            )
          ]
        : [])
    ]
  })

const harness = ({ accessControl, policies }: PostilionConfig): ReadonlyArray<Finding> => [
  ...(accessControl.accessPolicy === "open" || accessControl.allowedSenders.includes("*")
    ? [
        finding(
          "high",
          "accessControl",
          "whoever writes to it reaches an agent",
          "set `accessPolicy: allowlist`, and name senders"
        )
      ]
    : []),
  ...(policies.dailyTokenBudget === "unlimited"
    ? [finding("medium", "policies.dailyTokenBudget", "nothing ends what a mistake may cost", "set a number of tokens")]
    : []),
  ...(policies.maxActionsPerHour === "unlimited"
    ? [finding("medium", "policies.maxActionsPerHour", "nothing ends how often agents are called", "set a number")]
    : []),
  ...(policies.loopGuard.maxDepth === "unlimited" && policies.loopGuard.maxPerMinute === "unlimited"
    ? [finding("medium", "policies.loopGuard", "an agent that sets itself off is not stopped", "set `maxDepth`")]
    : []),
  ...(policies.requireApprovalFor.length === 0
    ? [
        finding(
          "low",
          "policies.requireApprovalFor",
          "nothing waits for a person",
          "name what a person should see first"
        )
      ]
    : [])
]

const files = (loaded: Loaded): ReadonlyArray<Finding> => [
  ...Files.sensitive(loaded).flatMap(({ file, what }) => {
    const who = Files.openTo(file)
    return who === "nobody"
      ? []
      : [finding(who === "everyone" ? "high" : "medium", file, `${who} can read ${what}`, `chmod 600 ${file}`)]
  }),
  ...writtenSecrets(loaded).map((setting) =>
    finding(
      "medium",
      `${setting.path} (${originOf(setting)})`,
      "the secret is written into the configuration",
      "keep it in a file of its own: write `file:` and its path"
    )
  ),
  ...(loaded.config.audit.signingKeyFile === undefined
    ? [
        finding(
          "low",
          "audit.signingKeyFile",
          "who can write the file can write another history",
          "sign the audit, and keep the public key elsewhere"
        )
      ]
    : [])
]

/** All there is to say against a configuration, the worst first. */
export const findings = (loaded: Loaded): ReadonlyArray<Finding> =>
  [tokens, doors, webhooks, harness]
    .flatMap((look) => look(loaded.config))
    .concat(files(loaded))
    .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity))

const STYLES: Readonly<Record<Severity, Style>> = { critical: "red", high: "red", medium: "yellow", low: "dim" }

export const securityAudit = Command.make("audit", { json: Flags.json, ...Flags.configured }, ({ config, json }) =>
  Effect.gen(function* () {
    const found = findings(yield* load(config))
    if (json) yield* printJson({ findings: found })
    else {
      for (const { cure, severity, what, where } of found) {
        yield* print(`${paint(STYLES[severity], severity.padEnd(8))}  ${where}: ${what}\n          ${cure}`)
      }
      if (found.length === 0) yield* print("nothing found")
    }
    const grave = found.filter(({ severity }) => severity === "critical" || severity === "high").length
    if (grave > 0)
      return yield* failed(`${grave} of ${found.length} findings are critical or high`, "put them right first")
  })
).pipe(
  Command.withDescription(
    "Looks at the configuration and its files for what could be used against the gateway. Ends with 1 where something is critical or high."
  )
)
