import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { batch, folder, freePort, project } from "./Support.ts"

const modeOf = (file: string): number => statSync(file).mode & 0o777

describe("setting up", { timeout: 180_000 }, () => {
  it("makes a configuration that is right, with secrets nobody else can read, and leaves one alone that is there", async () => {
    const cwd = folder()
    const [made, again, checked, shown, json, forced, mute] = await batch(
      [
        ["init", "--yes"],
        ["init", "--yes"],
        ["check", "--json"],
        ["config", "show"],
        ["config", "show", "--json"],
        ["init", "--yes", "--force"],
        ["init", "--config", "other.yaml"]
      ],
      { cwd }
    )
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining("postilion start") })
    // What an editor completes by is there.
    const [, schema = ""] =
      /^# yaml-language-server: \$schema=(\S+)$/m.exec(readFileSync(join(cwd, "gateway.yaml"), "utf8")) ?? []
    const { properties } = JSON.parse(readFileSync(new URL(schema), "utf8")) as { properties: object }
    expect(Object.keys(properties)).toContain("heartbeat")
    const token = readFileSync(join(cwd, "secrets/operator.token"), "utf8")
    expect(token).toMatch(/^[0-9a-f]{64}\n$/)
    for (const name of ["operator.token", "github.secret"]) expect(modeOf(join(cwd, "secrets", name))).toBe(0o600)
    expect(modeOf(join(cwd, "secrets"))).toBe(0o700)
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("is there already, and stays as it is") })
    expect(JSON.parse(checked?.stdout ?? "")).toMatchObject({ valid: true, warnings: [] })
    expect(shown?.stdout).toMatch(/^port +8765 +line \d+:7$/m)
    expect(shown?.stdout).toMatch(/^policies\.mergeWindowMs +300000 +default$/m)
    expect(shown?.stdout).toMatch(/^tokens\.operator\.token +<redacted> +line \d+:\d+, \.\/secrets\/operator\.token$/m)
    const { settings } = JSON.parse(json?.stdout ?? "") as { settings: ReadonlyArray<Record<string, unknown>> }
    expect(settings).toContainEqual({ path: "host", value: '"127.0.0.1"', origin: { from: "default" } })
    for (const { stderr, stdout } of [made, again, checked, shown, json].flatMap((one) => one ?? [])) {
      expect(stdout + stderr).not.toContain(token.trim())
    }
    expect(forced?.code).toBe(0)
    // In use somewhere: a secret is not made anew.
    expect(readFileSync(join(cwd, "secrets/operator.token"), "utf8")).toBe(token)
    expect(mute).toMatchObject({ code: 2, stderr: expect.stringContaining("--yes") })
    expect(existsSync(join(cwd, "other.yaml"))).toBe(false)
  })

  it("the doctor names what is ill, and puts right what is safe to", async () => {
    const { cwd, port } = await project()
    writeFileSync(
      join(cwd, "ill.yaml"),
      [
        `port: ${port}`,
        "storage: ./deep/down/ops.sqlite",
        "tokens: { ada: file:./secrets/operator.token }",
        `channels: { pager: { platform: callback, url: "http://127.0.0.1:${await freePort()}/", allowPrivate: true, secret: "file:./secrets/github.secret" } }`
      ].join("\n")
    )
    chmodSync(join(cwd, "secrets/operator.token"), 0o644)
    const [well, ill, fixed, after, wrong] = await batch(
      [
        ["doctor", "--json"],
        ["doctor", "--config", "ill.yaml"],
        ["doctor", "--config", "ill.yaml", "--fix", "--json"],
        ["doctor", "--config", "ill.yaml", "--json"],
        ["doctor", "--config", "nowhere.yaml"]
      ],
      { cwd }
    )
    const states = (result: { readonly stdout: string } | undefined) =>
      Object.fromEntries(
        (JSON.parse(result?.stdout ?? "{}").checks as ReadonlyArray<{ check: string; state: string }>).map((one) => [
          one.check,
          one.state
        ])
      )
    expect(well?.code).toBe(0)
    expect(states(well)).toEqual({
      node: "ok",
      configuration: "ok",
      port: "ok",
      storage: "ok",
      records: "ok",
      permissions: "warning",
      clock: "ok"
    })
    expect(ill).toMatchObject({ code: 1, stderr: expect.stringMatching(/1 of \d+ checks failed/) })
    expect(ill?.stdout).toContain("there is no folder")
    expect(ill?.stdout).toMatch(/channel pager: 127\.0\.0\.1:\d+ cannot be reached \(ECONNREFUSED\)/)
    expect(fixed?.code).toBe(0)
    expect(states(fixed)).toMatchObject({ storage: "fixed", permissions: "fixed" })
    expect(modeOf(join(cwd, "secrets/operator.token"))).toBe(0o600)
    expect(modeOf(join(cwd, "deep/down"))).toBe(0o700)
    expect(states(after)).toMatchObject({ storage: "ok", permissions: "ok" })
    expect(wrong).toMatchObject({ code: 1, stdout: expect.stringContaining("postilion init") })
  })

  it("the doctor says of records that are damaged that they are", async () => {
    const cwd = folder()
    writeFileSync(join(cwd, "gateway.yaml"), `port: ${await freePort()}\n`)
    writeFileSync(
      join(cwd, "postilion.sqlite"),
      "no database at all, whatever its name is; long enough to be looked at".repeat(20)
    )
    chmodSync(join(cwd, "postilion.sqlite"), 0o600)
    const [ill, read] = await batch([["doctor"], ["audit", "verify"]], { cwd })
    expect(ill).toMatchObject({ code: 1, stdout: expect.stringContaining("is not a SQLite database") })
    expect(read).toMatchObject({ code: 78, stderr: expect.stringContaining("is not a SQLite database") })
  })

  it("the security audit finds what could be used against the gateway, the worst first", async () => {
    const cwd = folder()
    writeFileSync(
      join(cwd, "open.yaml"),
      [
        "host: 0.0.0.0",
        "tokens: { ada: hunter2 }",
        "accessControl: { accessPolicy: open }",
        "allowedOrigins: [http://console.example.com]",
        "trustedProxies: [0.0.0.0/0]",
        "policies: { dailyTokenBudget: unlimited, maxActionsPerHour: unlimited, loopGuard: { maxDepth: unlimited, maxPerMinute: unlimited } }",
        "webhooks:",
        "  - { path: /notes, adapter: generic, unsigned: true }",
        "  - { path: /github, adapter: github, secret: short }"
      ].join("\n")
    )
    const [, good, bad, text] = await batch(
      [
        ["init", "--yes"],
        ["security", "audit", "--json"],
        ["security", "audit", "--config", "open.yaml", "--json"],
        ["security", "audit", "--config", "open.yaml"]
      ],
      { cwd }
    )
    interface Finding {
      readonly severity: string
      readonly where: string
      readonly cure: string
    }
    const findings = (result: { readonly stdout: string } | undefined) =>
      JSON.parse(result?.stdout ?? "{}").findings as ReadonlyArray<Finding>
    expect(good?.code).toBe(0)
    expect(findings(good).map(({ severity }) => severity)).toEqual(["low"])
    expect(bad?.code).toBe(1)
    const found = findings(bad).map(({ severity, where }) => `${severity} ${where.split(" ")[0]}`)
    for (const expected of [
      "critical tokens.ada",
      "medium host",
      "high accessControl",
      "medium allowedOrigins",
      "high trustedProxies",
      "medium policies.dailyTokenBudget",
      "medium policies.maxActionsPerHour",
      "medium policies.loopGuard",
      "low policies.requireApprovalFor",
      "high webhooks[0]",
      "high webhooks[1]",
      "low audit.signingKeyFile"
    ]) {
      expect(found).toContain(expected)
    }
    const order = ["critical", "high", "medium", "low"]
    const ranks = findings(bad).map(({ severity }) => order.indexOf(severity))
    expect(ranks).toEqual([...ranks].sort())
    expect(findings(bad).every(({ cure }) => cure !== "")).toBe(true)
    expect(text?.stdout).not.toContain("hunter2")
    expect(text?.stderr).toMatch(/of \d+ findings are critical or high/)
  })
})
