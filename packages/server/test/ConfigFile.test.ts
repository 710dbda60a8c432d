import { chmodSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { ConfigFile } from "@postilion/server"
import { Effect, Either, Redacted } from "effect"
import { tempDir } from "./Support.ts"

const env = { GITHUB_WEBHOOK_SECRET: "s3cr3t", ANTHROPIC_API_KEY: "sk-ant", PORT: "9000", EMPTY: "", YES: "true" }
const parse = (text: string) => Either.getOrThrowWith(ConfigFile.parse(text, "gateway.yaml", { env }), (error) => error)
const problem = (text: string) =>
  Either.getOrThrowWith(Either.flip(ConfigFile.parse(text, "gateway.yaml", { env })), String)

describe("a gateway.yaml", () => {
  it("is short, and says what a gateway needs", () => {
    const { config, warnings } = parse(`
# gateway.yaml
agents:
  ops:
    instructions: You keep our deployments healthy.
    model: anthropic/claude-sonnet
    budget: { tokensPerDay: 50_000, usdPerMonth: 20 }
heartbeat: { agent: ops, interval: 30 minutes, policy: adaptive, instruction: Check for pending work }
crons:
  - { name: standup, schedule: "0 9 * * MON-FRI", timezone: Europe/Berlin, agent: ops, instruction: Summarize the night }
webhooks:
  - { path: /github, adapter: github, secret: "\${GITHUB_WEBHOOK_SECRET}", events: [push, pull_request], agent: ops }
policies:
  maxActionsPerHour: 20
  requireApprovalFor: [deploy]
`)
    expect(warnings).toEqual([])
    expect(config).toMatchObject({
      agents: { ops: { model: "anthropic/claude-sonnet", budget: { tokensPerDay: 50_000, usdPerMonth: 20 } } },
      heartbeat: { agentId: "ops", intervalMs: 1_800_000 },
      crons: [{ agentId: "ops", timezone: "Europe/Berlin" }],
      webhooks: [{ agentId: "ops", events: ["push", "pull_request"] }],
      policies: { maxActionsPerHour: 20, requireApprovalFor: ["deploy"], dailyTokenBudget: 100_000 }
    })
    const [hook] = config.webhooks
    expect(hook?.secret && Redacted.value(hook.secret)).toBe("s3cr3t")
  })

  it("takes the names of the gateways people come from, and says what to write", () => {
    const { config, warnings } = parse(`
host: 127.0.0.1
auth_token: t0ken
max_connections: 50
heartbeat_interval: 15
reconnect_timeout: 90
ssl_cert: a.crt
ssl_key: a.key
access_control: { allowed_senders: [ada] }
`)
    expect(config).toMatchObject({
      webSocket: { maxConnections: 50, heartbeatIntervalMs: 15_000, reconnectTimeoutMs: 90_000 },
      ssl: { cert: resolve("a.crt"), key: resolve("a.key") },
      accessControl: { allowedSenders: ["ada"] },
      tokens: { operator: { scopes: ["operator"] } }
    })
    expect(warnings.map(({ column, line, message }) => [line, column, message])).toEqual([
      [3, 1, '"auth_token" is read as tokens.operator; write that'],
      [4, 1, '"max_connections" is read as webSocket.maxConnections; write that'],
      [5, 1, '"heartbeat_interval" is read as webSocket.heartbeatIntervalMs; write that'],
      [6, 1, '"reconnect_timeout" is read as webSocket.reconnectTimeoutMs; write that'],
      [7, 1, '"ssl_cert" is read as ssl.cert; write that'],
      [8, 1, '"ssl_key" is read as ssl.key; write that'],
      [9, 1, '"access_control" is read as accessControl; write that'],
      [9, 19, '"allowed_senders" is read as allowedSenders; write that']
    ])
  })

  it.each([
    ["30 minutes", 1_800_000],
    ["90s", 90_000],
    ["1.5 h", 5_400_000],
    ["250 ms", 250],
    ["1 day", 86_400_000],
    ["2 weeks", 1_209_600_000],
    ["500 milliseconds", 500]
  ])("reads %s as a time", (written, intervalMs) => {
    expect(parse(`heartbeat: { interval: ${written} }`).config.heartbeat).toMatchObject({ intervalMs })
  })

  it("takes values from the environment, as the key needs them", () => {
    const { config } = parse(
      [
        "port: ${PORT}",
        "storage: ${DIR:-/var/lib/postilion}/ops.sqlite",
        'maxBodyBytes: "${BYTES:-1_000}"',
        "crons: [{ schedule: '0 9 * * *', instruction: 'costs $$5, or ${PORT} $', enabled: '${YES}' }]",
        "agents: { ops: { instructions: '${EMPTY:-nothing}' } }"
      ].join("\n")
    )
    expect(config).toMatchObject({
      port: 9000,
      storage: "/var/lib/postilion/ops.sqlite",
      maxBodyBytes: 1000,
      crons: [{ instruction: "costs $5, or 9000 $", enabled: true }],
      agents: { ops: { instructions: "nothing" } }
    })
  })

  it.scoped("takes secrets from files of their own, and says when others may read them", () =>
    Effect.gen(function* () {
      const folder = yield* tempDir
      const file = join(folder, "gateway.yaml")
      writeFileSync(join(folder, "github"), "s3cr3t\n\n", { mode: 0o600 })
      writeFileSync(join(folder, "token"), "t0ken\r\n")
      chmodSync(join(folder, "token"), 0o644)
      writeFileSync(
        file,
        "webhooks: [{ path: /github, adapter: github, secret: file:github }]\ntokens: { ada: 'file:./token' }\n"
      )
      const { config, settings, warnings } = yield* ConfigFile.load(file)
      const [hook] = config.webhooks
      // One line's end is the editor's, another would be the secret's.
      expect(hook?.secret && Redacted.value(hook.secret)).toBe("s3cr3t\n")
      const { ada } = config.tokens
      expect(ada && Redacted.value(ada.token)).toBe("t0ken")
      expect(warnings).toMatchObject([
        { line: 2, message: expect.stringMatching(/^others may read .*token; .*chmod 600$/) }
      ])
      expect(settings.find(({ path }) => path === "webhooks[0].secret")).toMatchObject({
        value: "<redacted>",
        origin: { from: "file", secretFile: "github" }
      })
    })
  )

  it("reads every path from the folder of the file, also the one nobody wrote", () => {
    const at = (text: string) =>
      Either.getOrThrow(ConfigFile.parse(text, "/etc/postilion/gateway.yaml", { env: { STATE: "../state" } })).config
    expect(at("{}").storage).toBe("/etc/postilion/postilion.sqlite")
    expect(at("storage: ':memory:'").storage).toBe(":memory:")
    expect(at("storage: /srv/ops.sqlite").storage).toBe("/srv/ops.sqlite")
    expect(at("storage: ${STATE}/ops.sqlite").storage).toBe("/etc/state/ops.sqlite")
    expect(
      at("ssl: { cert: ./a.crt, key: keys/a.key, clientCa: ../ca.crt }\naudit: { signingKeyFile: audit.pem }")
    ).toMatchObject({
      ssl: { cert: "/etc/postilion/a.crt", key: "/etc/postilion/keys/a.key", clientCa: "/etc/ca.crt" },
      audit: { signingKeyFile: "/etc/postilion/audit.pem" }
    })
  })

  it("says of every value where it came from", () => {
    const { settings } = parse("port: ${PORT}\npolicies:\n  dailyTokenBudget: 5\n")
    const of = (path: string) => settings.find((setting) => setting.path === path)
    expect(of("port")).toEqual({
      path: "port",
      value: "9000",
      origin: { from: "file", line: 1, column: 7, variables: ["PORT"], secretFile: undefined }
    })
    expect(of("policies.dailyTokenBudget")).toMatchObject({ value: "5", origin: { line: 3, column: 21 } })
    expect(of("policies.maxActionsPerHour")).toEqual({
      path: "policies.maxActionsPerHour",
      value: "30",
      origin: { from: "default" }
    })
  })

  it("shows all that is wrong at once, with the lines", () => {
    const error = problem("prot: 1\ntimezone: Mars\nport: 70_000\n")
    expect(error._tag).toBe("GatewayConfigError")
    expect(error.message).toBe(`gateway.yaml:1:1: prot: unknown key "prot"; did you mean "port"?
  |
1 | prot: ***
  | ^

gateway.yaml:2:11: timezone: "Mars" is not an IANA time zone; try "UTC" or "Europe/Berlin"
  |
2 | timezone: Mars
  |           ^

gateway.yaml:3:7: port: must be from 0 to 65535, got 70000
  |
3 | port: 70_000
  |       ^`)
    expect(error.problems?.map(({ path }) => path)).toEqual(["prot", "timezone", "port"])
  })

  it("never shows what is secret, nor what a variable stands for", () => {
    const secret = "hunter2"
    for (const text of [
      `webhooks: [{ path: /x, adapter: githbu, secret: ${secret} }]`,
      `webhooks: [{ path: /x, adapter: github, secert: ${secret} }]`,
      `webhooks: [{ path: /x, adapter: github, secret: [${secret}] }]`,
      `webhooks: [{ path: /x, adapter: github, secret: { a: ${secret} } }]`,
      `tokens: { ada: "${secret} ${secret}" }`,
      `tokens: { ada: ${secret}, bob: ${secret} }`,
      `tokens: [${secret}]`,
      `secret: ${secret}\n  bad: [`,
      `agents: { a: { apiKey: ${secret}, model: x } }`,
      "port: ${HIDDEN}",
      "timezone: ${HIDDEN}",
      "storage: ok\nwebhooks: [{ path: '${HIDDEN}', adapter: '${HIDDEN}', unsigned: true }]",
      "heartbeat: { interval: '${HIDDEN}' }",
      "crons: [{ schedule: '${HIDDEN}', instruction: x, agentId: '${HIDDEN}' }]"
    ]) {
      const result = ConfigFile.parse(text, "gateway.yaml", { env: { HIDDEN: secret } })
      expect(Either.isLeft(result), text).toBe(true)
      expect(JSON.stringify(result), text).not.toContain(secret)
    }
  })

  it.effect("that cannot be read says why", () =>
    Effect.gen(function* () {
      const missing = yield* Effect.flip(ConfigFile.load("/nowhere/gateway.yaml"))
      expect(missing.message).toBe("/nowhere/gateway.yaml: there is no such file")
      expect((yield* Effect.flip(ConfigFile.load("/"))).message).toBe("/: is a folder, not a file")
    })
  )

  it("is not brought down by aliases that multiply", () => {
    const rows = Array.from({ length: 12 }, (_, i) => `b${i + 1}: &b${i + 1} [${Array(10).fill(`*b${i}`).join(", ")}]`)
    const error = problem(["b0: &b0 [x, x, x]", ...rows].join("\n"))
    expect(error.message).toContain("aliases make more than 20000 values of this file")
  })
})
