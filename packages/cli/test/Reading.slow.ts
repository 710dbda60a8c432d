import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { root } from "../src/Cli.ts"
import { type Entry, nameOf } from "../src/Help.ts"
import { FROM_RECORDS } from "../src/Reference.ts"
import { batch, begin, type Ended, folder, freePort } from "./Support.ts"

/** Commands that read, as they are asked for here, and what they do where no gateway runs. */
const READING = {
  // The same as the gateway.
  "events list": ["records", "--limit 2"],
  "events show": ["records", "$event"],
  explain: ["records", "$event"],
  "approvals list": ["records"],
  "approvals show": ["records", "$approval"],
  "audit verify": ["records"],
  "audit list": ["records", "--kind event.decided"],
  "audit export": ["records"],
  budget: ["records"],
  "agents list": ["records"],
  "cron list": ["records"],
  "cron next": ["records", "nightly --limit 5"],
  "sessions list": ["records", "--limit 1"],
  "sessions show": ["records", "$session"],
  "sessions export": ["records"],
  "dead-letters list": ["records"],
  "dead-letters list --push": ["records"],
  "token list": ["records"],
  // What of it is recorded, and that none runs.
  status: ["part"],
  // They follow one that does.
  "events tail": ["live"],
  "audit tail": ["live"],
  "push subscribe": ["live", "alerts"],
  // The configuration or the records alone.
  check: ["alone"],
  "config show": ["alone"],
  "security audit": ["alone"],
  backtest: ["alone", "--policies srv/gateway.yaml"],
  "webhook sign": ["alone", "/notes --id d9"]
} as const satisfies Record<string, readonly [Kind, string?]>
type Kind = "records" | "part" | "live" | "alone"

const ACTING = new Set(
  "init,start,stop,pause,resume,doctor,events send,send,webhook send,approvals approve,approvals deny,cron add,cron remove,cron enable,cron disable,cron run,sessions delete,sessions import,dead-letters replay,token create,token revoke,push publish,completions".split(
    ","
  )
)

const leaves = ({ below, command }: Entry, path: ReadonlyArray<string> = []): ReadonlyArray<string> =>
  below.length === 0
    ? [[...path, nameOf(command)].join(" ")]
    : below.flatMap((entry) => leaves(entry, command === root.command ? [] : [...path, nameOf(command)]))

const json = (ended: Ended | undefined) => JSON.parse(ended?.stdout ?? "null")
const TOKEN = "8f1c6a0b7d9e4f25a3b1c0d2e4f60718"
const LINES = new Set(["audit export", "sessions export", "webhook sign"])

describe("commands that read", { timeout: 300_000 }, () => {
  it("are all of them in the table here, and on the page", () => {
    const named = new Set(Object.keys(READING).map((line) => line.replace(/ --.*/, "")))
    const commands = leaves(root)
    expect(commands.filter((command) => !named.has(command) && !ACTING.has(command))).toEqual([])
    expect([...named].filter((command) => !commands.includes(command))).toEqual([])
    const same = Object.entries(READING).flatMap(([line, [kind]]) =>
      kind === "records" && !line.includes(" --") ? [line] : []
    )
    expect([...FROM_RECORDS].sort()).toEqual(same.sort())
  })

  it("say the same of a gateway that runs and of its records, wherever they are asked from; and else what to do, with 75", async () => {
    const home = folder()
    const cwd = join(home, "srv")
    mkdirSync(cwd)
    const port = await freePort()
    const dead = await freePort()
    writeFileSync(join(cwd, "ada.token"), `${TOKEN}\n`, { mode: 0o600 })
    writeFileSync(
      join(cwd, "gateway.yaml"),
      [
        `port: ${port}`,
        "storage: ./data.sqlite",
        "tokens: { ada: file:ada.token }",
        "agents: { ops: {}, aide: {} }",
        "accessControl: { allowedSenders: [ada] }",
        "policies: { requireApprovalFor: [deploy] }",
        "limits: { maxDeliveryAttempts: 1 }",
        `channels: { pager: { platform: callback, url: "http://127.0.0.1:${dead}/", allowPrivate: true, secret: "17d0c2b4a69f8e35" } }`,
        "crons: [{ name: nightly, schedule: '0 3 * * *', instruction: Look around, deliverTo: { channel: pager, target: ops } }]",
        "webhooks:",
        "  - { path: /github, adapter: github, secret: 5b2e9d7c1a4f8036 }",
        "  - { path: /notes, adapter: generic, unsigned: true, deliverTo: { channel: pager, target: ops } }",
        ""
      ].join("\n"),
      { mode: 0o600 }
    )
    // As somebody does who stands elsewhere.
    const config = ["--config", "srv/gateway.yaml"]
    const run = (lines: ReadonlyArray<ReadonlyArray<string>>) =>
      batch(
        lines.map((line) => [...line, ...config]),
        { cwd: home }
      )
    const server = begin(["start", ...config], { cwd: home })
    await server.printed(/Postilion at http/)

    const [deployed, , , , , made] = await run([
      ["webhook", "send", "/github", "--event", "deployment", "--json"],
      ["send", "hello", "--json"],
      ["send", "again", "--chat", "other", "--json"],
      ["webhook", "send", "/notes", "--json"],
      ["cron", "disable", "nightly"],
      ["token", "create", "bob", "--scopes", "viewer", "--expires", "1 day", "--json"],
      ["pause", "--agent", "aide"]
    ])
    expect(made?.code).toBe(0)
    const ask = async (path: string, body?: object) => {
      const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" }
      const request = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) }
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, request)
      expect(answer.ok, path).toBe(true)
      return (await answer.json()) as Record<string, unknown>
    }
    await ask("/push/alerts?subscription=desk&since=0&timeout=0")
    const { cursor } = await ask("/push/alerts", { data: { disk: "91%" } })
    await ask("/push/alerts?subscription=desk&timeout=30000")
    await ask("/push/alerts/nack", { subscription: "desk", cursors: [cursor], requeue: false, reason: "no paper" })
    await expect.poll(() => ask("/deliveries?state=failed"), { timeout: 60_000 }).toMatchObject({ deliveries: [{}] })
    const [waiting, talks] = await run([
      ["approvals", "list", "--json"],
      ["sessions", "list", "--json"]
    ])
    const stand = {
      $event: String(json(deployed).eventId),
      $approval: String(json(waiting).approvals[0].id),
      $session: String(json(talks).sessions[0].key)
    }
    const asked = Object.entries(READING).map(([line, [kind, rest = ""]]) => ({
      line,
      kind,
      words: `${line} ${rest}`
        .trim()
        .replaceAll(/\$\w+/g, (name) => stand[name as keyof typeof stand])
        .split(" ")
        .concat(LINES.has(line) ? [] : ["--json"])
    }))
    const following = asked.filter(({ kind }) => kind === "live")
    const answering = asked.filter(({ kind }) => kind !== "live")

    const live = await run(answering.map(({ words }) => words))
    const next = json(live[answering.findIndex(({ line }) => line === "sessions list")]).next
    for (const name of ["dead-letters list", "dead-letters list --push"]) {
      const [letters] = Object.values(json(live[answering.findIndex(({ line }) => line === name)]))
      expect(letters, name).toHaveLength(1)
    }
    const [page] = await run([["sessions", "list", "--limit", "1", "--cursor", next, "--json"]])
    const [stopped] = await run([["stop"]])
    expect(stopped?.code).toBe(0)
    expect((await server.ended).code).toBe(0)
    const kept = await run(answering.map(({ words }) => words))

    for (const [i, { kind, line }] of answering.entries()) {
      const [before, after] = [live[i], kept[i]]
      expect(before, line).toMatchObject({ code: 0 })
      if (kind === "part") {
        const { budget, deliveries, isRunning, pending, rate, switches } = json(before)
        expect(isRunning).toBe(true)
        expect(json(after)).toMatchObject({ isRunning: false, budget, rate, pending, deliveries, switches })
        expect(after).toMatchObject({ code: 75, stderr: expect.stringContaining("start it first") })
      } else {
        expect(after, line).toMatchObject({ code: 0 })
        // The end of the gateway is itself recorded, after all else.
        if (line === "audit verify") expect(json(after).records).toBeGreaterThanOrEqual(json(before).records)
        else if (line === "audit export") expect(after?.stdout.startsWith(before?.stdout ?? "?")).toBe(true)
        else if (LINES.has(line)) expect(after?.stdout, line).toBe(before?.stdout)
        else expect(json(after), line).toEqual(json(before))
      }
    }
    const [then] = await run([["sessions", "list", "--limit", "1", "--cursor", next, "--json"]])
    expect(json(page).sessions).toHaveLength(1)
    expect(json(then)).toEqual(json(page))

    const text = await run([["status"], ["cron", "next", "nightly"], ["token", "list"]])
    expect(text[0]?.stdout).toMatch(/^gateway +not running/)
    expect(text[0]?.stdout).toMatch(/^waiting +0 queued, 0 merging, 1 for a person/m)
    expect(text[1]?.stdout).toMatch(/^next +2\d{3}-/m)
    expect(text[2]?.stdout).toContain("bob")

    // What follows has nothing to follow; what is not there is not there; and a folder in which nothing ever ran has no records.
    const away = await run(following.map(({ words }) => words))
    for (const [i, { line }] of following.entries()) expect([line, away[i]?.code]).toEqual([line, 75])
    for (const { stderr } of away) expect(stderr).toContain("start it first")
    const missing = await run([
      ["events", "show", "evt_none"],
      ["approvals", "show", "apr_none"],
      ["cron", "next", "none"],
      ["sessions", "list", "--cursor", "none"]
    ])
    for (const { code } of missing) expect(code).toBe(1)
    writeFileSync(join(cwd, "new.yaml"), readFileSync(join(cwd, "gateway.yaml"), "utf8").replace("data.", "other."))
    const fresh = await batch(
      answering
        .filter(({ kind, line }) => kind !== "alone" || line === "backtest")
        .map(({ words }) => [...words, "--config", "srv/new.yaml"]),
      { cwd: home }
    )
    for (const { code, stderr, stdout } of fresh) {
      expect([code, stdout]).toEqual([75, ""])
      expect(stderr).toContain(`there are no records yet in ${join(cwd, "other.sqlite")}`)
    }
  })
})
