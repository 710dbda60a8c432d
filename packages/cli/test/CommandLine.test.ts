import { execFileSync } from "node:child_process"
import { once } from "node:events"
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { BIN, batch, cli, folder, freePort } from "./Support.ts"

describe("the command line", { timeout: 180_000 }, () => {
  it("says what it ends with: 0 done, 1 failed, 2 usage, 75 not now, 78 configuration, 130 Ctrl-C", async () => {
    const cwd = folder()
    const port = await freePort()
    writeFileSync(
      join(cwd, "gateway.yaml"),
      `port: ${port}\nwebhooks: [{ path: /notes, adapter: generic, unsigned: true }]\n`
    )
    writeFileSync(join(cwd, "wrong.yaml"), "policies:\n  dailyTokenBudjet: 1\n")
    const lines = [
      ["check"],
      ["webhook", "sign", "/nothing"],
      ["status", "--jsn"],
      ["status"],
      ["check", "--config", "wrong.yaml"]
    ]
    const ended = await Promise.all(lines.map((line) => cli(line, { cwd })))
    expect(ended.map(({ code }) => code)).toEqual([0, 1, 2, 75, 78])
    const [right, failed, usage, away, wrong] = ended.map(({ stderr, stdout }) => stdout + stderr)
    expect(right).toContain("gateway.yaml is right: 1 agent, 1 webhook, 0 crons")
    expect(failed).toContain("there are: /notes")
    expect(usage).toContain("--jsn")
    expect(usage).toContain("see `postilion status --help`")
    expect(away).toContain(`no gateway answers at http://127.0.0.1:${port}`)
    expect(away).toContain("start it first")
    expect(wrong).toMatch(/wrong\.yaml:2:3/)
    expect(wrong).toContain('did you mean "dailyTokenBudget"')
    for (const { stderr, stdout } of ended) {
      expect(stdout + stderr).not.toContain("\x1b[")
      expect(stdout + stderr).not.toMatch(/^ +at .*\.js:/m)
    }
  })

  it("says by which rule of its file something would go to which agent, where no gateway runs", async () => {
    const cwd = folder()
    writeFileSync(
      join(cwd, "gateway.yaml"),
      `port: ${await freePort()}\nagents: { first: {}, team: {} }\nrouting: { group: team, bindings: [{ agent: team, peer: ada }] }\n`
    )
    const results = await batch(
      [
        ["route", "--peer", "ada"],
        ["route", "--context", "group", "--json"],
        ["route"],
        ["route", "--context", "crowd"]
      ],
      { cwd }
    )
    const [bound, group, none, wrong] = results
    expect(bound).toMatchObject({ code: 0, stdout: "team: routed by routing.bindings[0]: peer ada\n" })
    expect(JSON.parse(group?.stdout ?? "")).toEqual({ agentId: "team", by: "routing.group" })
    expect(none?.stdout).toBe("first: no rule is for it: the first of the agents has it\n")
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining("dm, group, channel") })
  })

  it("is what was compiled, and in a clone where nothing was, its source", () => {
    const clone = folder()
    const bin = join(clone, "packages/cli/bin/postilion.js")
    for (const name of ["packages/cli/bin", "packages/cli/dist", "scripts"])
      mkdirSync(join(clone, name), { recursive: true })
    copyFileSync(BIN, bin)
    writeFileSync(join(clone, "package.json"), '{ "type": "module" }')
    const tells = (what: string) => `console.log(${JSON.stringify(what)}, process.argv.slice(2).join(" "))`
    const said = () => execFileSync(process.execPath, [bin, "check", "--json"], { encoding: "utf8" })
    writeFileSync(join(clone, "scripts/run.mjs"), tells("run.mjs"))
    expect(said()).toBe("run.mjs postilion check --json\n")
    writeFileSync(join(clone, "packages/cli/dist/main.js"), tells("main.js"))
    expect(said()).toBe("main.js check --json\n")
  })

  it("names the command that was meant, and explains each one", async () => {
    const results = await batch(
      [
        ["evnts"],
        ["events", "lst"],
        ["events"],
        [],
        ["events", "--help"],
        ["events", "list", "--help"],
        ["explain"],
        ["events", "list", "--limit", "0"],
        ["--version"],
        ["completions", "bash"],
        ["completions", "zsh"],
        ["completions", "fish"],
        ["check", "--config", "nowhere.yaml", "--debug"]
      ],
      { cwd: folder() }
    )
    const [typo, below, bare, none, group, leaf, missing, range, version, bash, zsh, fish, debug] = results
    expect(typo).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("did you mean `postilion events`?")
    })
    expect(below?.stderr).toContain("did you mean `postilion events list`?")
    expect(bare).toMatchObject({ code: 2, stderr: expect.stringContaining("see `postilion events --help`") })
    expect(none).toMatchObject({ code: 0, stdout: expect.stringContaining("Usage: postilion <command>") })
    expect(none?.stdout).toMatch(/^ {2}security +Looks for/m)
    expect(group?.stdout).toMatch(/^ {2}tail +Shows what happens/m)
    expect(leaf?.stdout).toMatch(/^ {2}--limit n +At most so many/m)
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining("Missing argument <event>") })
    expect(range).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--limit must be a whole number, from 1 to 1000")
    })
    expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
    for (const shell of [bash, zsh, fish])
      expect(shell).toMatchObject({ code: 0, stdout: expect.stringContaining("webhook") })
    expect(debug).toMatchObject({ code: 78, stderr: expect.stringMatching(/^ +at .*Configuration\.js:/m) })
  })

  it("says of a value that is none which one it is, and what is", async () => {
    const cwd = folder()
    // All that is asked of it is whether it is there: what is wrong is found before anything is sent.
    const there = createServer((_, response) => response.end()).listen(0, "127.0.0.1")
    await once(there, "listening")
    const { port } = there.address() as AddressInfo
    writeFileSync(join(cwd, "gateway.yaml"), `port: ${port}\n`)
    writeFileSync(join(cwd, "wrong.yaml"), "prot: 1\n")
    const cases: ReadonlyArray<readonly [line: ReadonlyArray<string>, code: number, message: string]> = [
      [["start", "--port", "99999"], 2, "--port must be a whole number, from 0 to 65535"],
      [["start", "--port", "http"], 2, "--port must be a whole number, from 0 to 65535"],
      [["events", "list", "--from", "yesterday"], 2, "--from must be a time such as 2026-01-31T09:00:00Z"],
      [["push", "subscribe", "jobs", "--since", "x"], 2, "--since must be a whole number, 0 or more"],
      [
        ["backtest", "--policies", "gateway.yaml", "--from", "now"],
        2,
        '--from must be a time such as 2026-01-31T09:00:00Z, or "-30 days"'
      ],
      [["backtest", "--policies", "gateway.yaml", "--from", "-x days"], 2, "--from must be a time"],
      [["backtest", "--policies", "none.js"], 1, `there is no "${join(cwd, "none.js")}"`],
      [["push", "publish", "a b", "1"], 2, "channel must be letters, digits and ._:-, 100 at most"],
      [["token", "create", "ada", "--expires", "0 seconds"], 2, "expiresInSeconds must be a whole number from 1 to"]
    ]
    const [wrong, ...results] = await batch(
      [["check", "--config", "wrong.yaml", "--json"], ...cases.map(([line]) => line)],
      { cwd }
    )
    there.close()
    for (const [i, [line, code, message]] of cases.entries()) {
      const said = `error: ${message}`
      expect(results[i], line.join(" ")).toMatchObject({ code, stdout: "", stderr: expect.stringContaining(said) })
      expect(results[i]?.stderr.split("\n").length, line.join(" ")).toBeLessThanOrEqual(3)
    }
    expect(wrong?.code).toBe(78)
    expect(JSON.parse(wrong?.stdout ?? "")).toMatchObject({
      valid: false,
      problems: [{ path: "prot", line: 1, column: 1, message: expect.stringContaining('did you mean "port"?') }]
    })
  })
})
