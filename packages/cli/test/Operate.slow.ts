import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { batch, cli, type Ended, project, start } from "./Support.ts"

const json = (ended: Ended | undefined) => JSON.parse(ended?.stdout ?? "null")
const run = async (cwd: string, ...lines: ReadonlyArray<string>): Promise<ReadonlyArray<Ended>> =>
  batch(
    lines.map((line) => line.split(" ")),
    { cwd }
  )

const AUDITOR = `
crons:
  - { name: standup, schedule: "0 9 * * *", instruction: Summarize the night }
`

describe("operating a gateway", { timeout: 300_000 }, () => {
  it("every command does to a gateway that runs what it says; what reads works on its records too; the rest says to start it", async () => {
    const { cwd, url } = await project(AUDITOR)
    const server = await start(cwd, "--log-format", "json")

    const sent = await cli(["webhook", "send", "/github", "--event", "deployment", "--id", "d1"], { cwd })
    expect(sent.stderr).toContain("accepted, decided: escalate")
    const event = sent.stdout.trim()
    expect(event).toMatch(/^evt_\w+$/)

    const [again, signed, explained, waiting, list, shown, read, routed] = await run(
      cwd,
      "webhook send /github --event deployment --id d1 --json",
      "webhook sign /github --json",
      `explain ${event} --json`,
      "approvals list --json",
      "events list --state awaiting-approval --json",
      `events show ${event} --json`,
      `events show ${event}`,
      "route --source webhook --json"
    )
    expect(json(again)).toMatchObject({ status: "duplicate", eventId: event })
    expect(json(signed).headers["x-hub-signature-256"]).toMatch(/^sha256=[0-9a-f]{64}$/)
    expect(json(explained)).toMatchObject({ eventId: event, state: "awaiting-approval" })
    expect(json(routed)).toEqual({ agentId: "assistant", by: "agents" })
    expect(json(list)).toMatchObject({ events: [{ id: event, decision: "escalate" }], next: null })
    expect(json(shown)).toMatchObject({ event: { id: event }, state: "awaiting-approval" })
    expect(read?.stdout).toMatch(/^decision +escalate by RequireApproval: /m)
    const approval = String(json(waiting).approvals[0].id)

    const [wrongDigest, approve, twice, answered, whole] = await run(
      cwd,
      `approvals approve ${approval} --digest ${"0".repeat(64)}`,
      `approvals approve ${approval} --json`,
      `approvals deny ${approval}`,
      `approvals show ${approval}`,
      `approvals show ${approval} --json`
    )
    expect(wrongDigest?.code).toBe(1)
    expect(json(approve)).toMatchObject({ id: approval, state: "approved", by: "operator" })
    expect(twice?.code).toBe(1)
    expect(answered?.stdout).toMatch(/^answers +approved by operator; needs 1$/m)
    expect(json(whole)).toMatchObject({ id: approval, proposal: { agent: { id: "assistant" } } })

    const [
      said,
      sessions,
      jobs,
      added,
      paused,
      held,
      resumed,
      made,
      tokens,
      agents,
      budget,
      status,
      dead,
      none,
      nobody,
      ran,
      ended
    ] = await batch(
      [
        ["send", "hello", "--json"],
        ["sessions", "list", "--json"],
        ["cron", "list", "--json"],
        ["cron", "add", "nightly", "Look around", "--every", "1 hour", "--json"],
        ["pause", "--agent", "assistant"],
        ["agents", "list", "--json"],
        ["resume", "--agent", "assistant"],
        ["token", "create", "bob", "--scopes", "viewer", "--expires", "1 day", "--json"],
        ["token", "list", "--json"],
        ["agents", "list"],
        ["budget", "--json"],
        ["status", "--json"],
        ["dead-letters", "list", "--json"],
        ["dead-letters", "replay", "dlv_none"],
        ["explain", "evt_none"],
        ["runs", "list", "--agent", "assistant", "--state", "completed", "--json"],
        ["runs", "abort", event]
      ],
      { cwd }
    )
    expect(json(said)).toMatchObject({ decision: "execute", reply: expect.stringContaining("offline model") })
    const runId = String(json(ran).runs[0].id)
    expect(json(ran)).toMatchObject({ runs: [{ agentId: "assistant" }, {}], next: null })
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining("completed") })
    const key = String(json(sessions).sessions[0].key)
    expect(json(jobs).jobs).toMatchObject([{ name: "standup", enabled: true }])
    const job = String(json(added).job.id)
    expect(json(added).next).toHaveLength(5)
    expect(paused?.stderr).toBe("assistant: paused\n")
    expect(json(held)).toEqual({ agents: [{ id: "assistant", mode: "paused" }] })
    expect(resumed?.stderr).toBe("assistant: running\n")
    const { id: tokenId, token } = json(made)
    expect(json(tokens)).toMatchObject({ tokens: [{ id: tokenId, name: "bob", scopes: ["viewer"] }] })
    expect(tokens?.stdout).not.toContain(token)
    expect(agents?.stdout).toMatch(/^assistant +running$/m)
    expect(json(budget)).toMatchObject({ total: { runs: 2 }, byAgent: [{ name: "assistant" }] })
    expect(json(status)).toMatchObject({ isRunning: true, scheduler: { jobs: 2 }, config: { atRestart: [] } })
    expect(json(dead)).toEqual({ deliveries: [] })
    expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("dlv_none") })
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining("evt_none") })

    writeFileSync(join(cwd, "bob.token"), token, { mode: 0o600 })
    const [byBob, denied, stranger] = await Promise.all([
      cli(["status", "--json", "--url", url, "--token-file", "bob.token"], { cwd }),
      cli(["pause", "--token-file", "bob.token"], { cwd }),
      cli(["status"], { cwd, env: { POSTILION_URL: url, POSTILION_TOKEN: "nobody" } })
    ])
    expect(json(byBob)).toMatchObject({ isRunning: true })
    expect(denied).toMatchObject({ code: 1, stderr: expect.stringContaining("token create") })
    expect(stranger).toMatchObject({ code: 1, stderr: expect.stringContaining("--token-file") })

    const [disabled, enabled, fired, next, removed, revoked, exported, refused, gone, imported, written, forbidden] =
      await batch(
        [
          ["cron", "disable", "nightly"],
          ["cron", "enable", job],
          ["cron", "run", job, "--json"],
          ["cron", "next", "nightly", "--json"],
          ["cron", "remove", job],
          ["token", "revoke", tokenId],
          ["sessions", "export", "--output", "sessions.jsonl"],
          ["sessions", "import", "sessions.jsonl"],
          ["sessions", "delete", key, "--yes"],
          ["sessions", "import", "sessions.jsonl", "--json"],
          ["audit", "export", "--output", "audit.jsonl"],
          ["sessions", "delete", key]
        ],
        { cwd }
      )
    expect(disabled?.stderr).toBe(`${job}: disabled\n`)
    expect(enabled?.stderr).toMatch(/: next \d{4}-/)
    expect(json(fired)).toMatchObject({ decision: "execute" })
    expect(json(next)).toMatchObject({ job: { id: job } })
    expect(removed?.code).toBe(0)
    expect(revoked?.stderr).toContain("revoked")
    expect(exported?.stderr).toContain("sessions.jsonl: 3 lines")
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(key.slice(0, 4)) })
    expect(gone?.code).toBe(0)
    expect(json(imported)).toEqual({ sessions: 1, turns: 2 })
    expect(forbidden?.code).toBe(2)
    const records = readFileSync(join(cwd, "audit.jsonl"), "utf8").trimEnd().split("\n")
    expect(written?.stderr).toContain(`audit.jsonl: ${records.length} records`)

    const verified = await cli(["audit", "verify", "--url", url, "--json"], { cwd })
    expect(json(verified)).toMatchObject({ valid: true, from: 1, records: records.length })

    const stopped = await cli(["stop"], { cwd })
    expect(stopped).toMatchObject({ code: 0, stderr: expect.stringContaining("it has stopped") })
    const { code, stderr, stdout } = await server.ended
    expect(code).toBe(0)
    for (const line of stdout.trimEnd().split("\n")) expect(JSON.parse(line)).toHaveProperty("message")
    expect(stderr).toMatch(/^Postilion at http.*\n$/)

    const offline = await run(
      cwd,
      `explain ${event}`,
      "events list --json",
      "approvals list",
      "sessions list --json",
      "cron list --json",
      "dead-letters list --json",
      "budget --json",
      "audit verify --json",
      "audit list --kind approval.decided --json",
      "sessions export",
      "runs list",
      `runs show ${runId}`
    )
    expect(offline.map(({ code }) => code)).toEqual(offline.map(() => 0))
    const [
      explainedThen,
      eventsThen,
      approvalsThen,
      sessionsThen,
      jobsThen,
      deadThen,
      budgetThen,
      auditThen,
      decided,
      lines,
      runsThen,
      runThen
    ] = offline
    expect(explainedThen?.stdout).toContain(`approval ${approval}: approved by operator`)
    expect(json(eventsThen).events.map(({ id }: { id: string }) => id)).toContain(event)
    expect(approvalsThen?.stderr).toBe("nothing waits for a person\n")
    expect(json(sessionsThen)).toMatchObject({ sessions: [{ key }] })
    expect(json(jobsThen).jobs).toMatchObject([{ name: "standup" }])
    expect(json(deadThen)).toEqual({ deliveries: [] })
    expect(json(budgetThen)).toMatchObject({ total: { runs: 3 } })
    expect(json(auditThen)).toMatchObject({ valid: true })
    expect(json(decided).records).toMatchObject([{ kind: "approval.decided", eventId: event }])
    expect(runsThen?.stdout).toContain(runId)
    expect(runThen?.stdout).toMatch(/^said +.*offline model/m)
    expect(lines?.stdout).toBe(readFileSync(join(cwd, "sessions.jsonl"), "utf8"))

    const writes = await run(
      cwd,
      "pause",
      "resume",
      "stop",
      "send hello",
      `approvals approve ${approval}`,
      "cron add a b --at 2100-01-01T00:00:00Z",
      "cron remove x",
      "cron run x",
      `sessions delete ${key} --yes`,
      "sessions import sessions.jsonl",
      "token create x",
      "token revoke x",
      "dead-letters replay x",
      "webhook send /github",
      "status"
    )
    for (const refused of writes)
      expect(refused).toMatchObject({ code: 75, stderr: expect.stringContaining("start it first") })

    writeFileSync(
      join(cwd, "freeze.mjs"),
      'export default (Policy) => Policy.make("Freeze", { priority: 1, evaluate: ({ metadata }) => metadata.type === "deployment" ? Policy.skip("frozen") : Policy.pass })\n'
    )
    writeFileSync(join(cwd, "loose.yaml"), readFileSync(join(cwd, "gateway.yaml"), "utf8").replace("[deploy]", "[]"))
    const [same, frozen, loose, nothing, notOne] = await run(
      cwd,
      "backtest --policies gateway.yaml",
      "backtest --policies freeze.mjs --json",
      "backtest --policies loose.yaml --from 2020-01-01",
      "backtest --policies nowhere.mjs",
      "backtest --policies bob.token"
    )
    expect(same?.stdout).toMatch(/^3 events · no decision differs$/m)
    expect(json(frozen)).toMatchObject({ events: 3, changes: [{ replayed: { action: "skip", policy: "Freeze" } }] })
    expect(loose?.stdout).toContain("execute ← escalate")
    expect(nothing).toMatchObject({ code: 1, stderr: expect.stringContaining("cannot be loaded") })
    expect(notOne?.code).toBe(1)
  })

  it("start says what keeps it from starting, with 75 or 78; audit verify says with 1 that records were changed", async () => {
    const { cwd } = await project()
    const server = await start(cwd)
    const [port, file, wrong] = await Promise.all([
      cli(["start"], { cwd }),
      cli(["start", "--port", "0"], { cwd }),
      cli(["start", "--config", "nowhere.yaml"], { cwd })
    ])
    expect(port).toMatchObject({ code: 75, stderr: expect.stringContaining("the port is in use") })
    expect(file).toMatchObject({ code: 78, stderr: expect.stringContaining(`pid ${server.process.pid}`) })
    expect(wrong).toMatchObject({ code: 78, stderr: expect.stringContaining("postilion init") })
    for (const { stderr, stdout } of [port, file, wrong]) expect(stdout + stderr).not.toMatch(/^ +at .*\.js:/m)
    server.process.kill("SIGTERM")
    expect((await server.ended).code).toBe(0)

    await Effect.runPromise(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`UPDATE audit SET body = replace(body, 'assistant', 'intruder') WHERE seq = 1`
      }).pipe(Effect.provide(SqliteClient.layer({ filename: join(cwd, "postilion.sqlite") })))
    )
    const verified = await cli(["audit", "verify"], { cwd })
    expect(verified).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("broken at record 1") })
  })
})
