import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as ApiClient from "@postilion/client/ApiClient"
import { AgentRunError, AuditLog, GatewayService, Journal, type RawInput, SessionStore } from "@postilion/gateway"
import { HttpAddress } from "@postilion/server"
import { Effect, Stream } from "effect"
import { start, urlOf } from "./ChildServer.ts"
import { ADA, as, eventually, MALLORY, request, requestAt, result, say, server } from "./Support.ts"

const client = (token: string | undefined = ADA) =>
  Effect.flatMap(HttpAddress, ({ url }) => ApiClient.make({ baseUrl: url, token })).pipe(
    Effect.provide(FetchHttpClient.layer)
  )
const problem = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    if (!(error instanceof ApiClient.ApiProblem)) throw error
    const { detail, members, reason, status } = error
    return { detail, members, reason, status }
  })
const all = <A, E, R>(stream: Stream.Stream<A, E, R>) => Effect.map(Stream.runCollect(stream), (found) => [...found])
const importing = (text: string, query = "") =>
  request(`/sessions/import${query}`, {
    method: "POST",
    headers: { authorization: `Bearer ${ADA}`, "content-type": "application/jsonl" },
    body: text
  })

describe("events over HTTP", () => {
  it.scoped(
    "E5: a program hands in events of its own; a key counts for who uses it, and says nothing of who sends",
    () =>
      Effect.gen(function* () {
        const ada = yield* client()
        const mallory = yield* client(MALLORY)
        const event = { payload: { disk: "91 %" }, idempotencyKey: "disk", sessionKey: "ops" }
        const first = yield* ada.events.submit({ payload: event })
        expect(first).toMatchObject({ duplicate: false, decision: "execute" })
        expect(yield* ada.events.submit({ payload: event })).toMatchObject({ duplicate: true, eventId: first.eventId })
        const other = yield* mallory.events.submit({ payload: event })
        expect(other).toMatchObject({ duplicate: false })
        const { outcome } = yield* GatewayService
        expect((yield* outcome(other.eventId)).event).toMatchObject({ sender: "mallory", source: "state-change" })
        const record = yield* ada.events.show({ path: { eventId: first.eventId } })
        expect(record.event.timestamp).toBeInstanceOf(Date)
        const { events, next } = yield* ada.events.list({ urlParams: { limit: 1 } })
        expect(events).toMatchObject([{ id: other.eventId, sender: "mallory" }])
        const rest = yield* ada.events.list({ urlParams: { cursor: next ?? "" } })
        expect(rest).toMatchObject({ events: [{ id: first.eventId, sender: "ada" }], next: null })
        expect((yield* ada.events.explain({ path: { eventId: first.eventId } })).render()).toContain(first.eventId)
        for (const extra of [{ sender: "bob" }, { source: "webhook" }, { causedBy: "run_1" }]) {
          const answer = yield* request("/events", {
            method: "POST",
            headers: { authorization: `Bearer ${ADA}`, "content-type": "application/json" },
            body: JSON.stringify({ payload: null, ...extra })
          })
          expect(answer).toMatchObject({
            status: 422,
            body: { detail: expect.stringContaining(Object.keys(extra)[0] ?? "") }
          })
        }
        const unrouted = ada.events.submit({ payload: { payload: null, agentId: "nobody" } })
        expect(yield* problem(unrouted)).toMatchObject({ status: 422, reason: "invalid-input" })
      }).pipe(Effect.provide(server()))
  )

  it.scoped("the client fails with the gateway's problems", () =>
    Effect.gen(function* () {
      const ada = yield* client()
      expect(yield* problem(ada.events.show({ path: { eventId: "a/../status" } }))).toMatchObject({
        status: 404,
        detail: 'there is no event "a/../status"'
      })
      for (const [path, detail] of [
        ["/events?limit=0", "limit must be a whole number from 1 to 1000"],
        ["/events?limit=many", "limit must be a whole number from 1 to 1000"],
        ["/events?from=yesterday", "from must be a time such as 2026-01-31T09:00:00Z"]
      ] as const) {
        const { body } = yield* request(path, as(ADA))
        expect(body.detail, path).toContain(detail)
      }
      expect(yield* problem(ada.events.list({ urlParams: { cursor: "yesterday" } }))).toMatchObject({ status: 422 })
      expect(yield* problem((yield* client("wrong")).gateway.status())).toMatchObject({
        status: 401,
        reason: "token-unknown"
      })
      expect(yield* problem(all((yield* client("wrong")).audit.export))).toMatchObject({ status: 401 })
      expect(yield* (yield* client(undefined)).health.ready()).toEqual({ status: "ready" })
    }).pipe(Effect.provide(server()))
  )
})

describe("runs over HTTP", () => {
  it.scoped("are listed a page at a time, by agent, state and session, and shown one by one", () =>
    Effect.gen(function* () {
      const { runs } = yield* client()
      const gateway = yield* GatewayService
      const run = (text: string, more: Partial<RawInput>) =>
        Effect.gen(function* () {
          const { eventId } = yield* gateway.submit({ source: "a2a", payload: { text }, ...more })
          return (yield* gateway.outcome(eventId)).run?.id ?? ""
        })
      const [first, second, third] = [
        yield* run("one", { sessionKey: "ops" }),
        yield* run("fail", { agentId: "other", sessionKey: "ops" }),
        yield* run("three", { agentId: "other" })
      ]
      const page = yield* runs.list({ urlParams: { limit: 2 } })
      expect(page.runs.map(({ id }) => id)).toEqual([third, second])
      expect(page.runs[0]).not.toHaveProperty("text")
      const rest = yield* runs.list({ urlParams: { limit: 2, cursor: page.next ?? "" } })
      expect(rest).toMatchObject({ runs: [{ id: first, sessionKey: "ops" }], next: null })
      const listed = (urlParams: Parameters<typeof runs.list>[0]["urlParams"]) =>
        Effect.map(runs.list({ urlParams }), ({ next, runs }) => [...runs.map(({ id }) => id), next])
      expect(yield* listed({ limit: 3 })).toEqual([third, second, first, null])
      expect(yield* listed({ agentId: "other" })).toEqual([third, second, null])
      expect(yield* listed({ state: "failed" })).toEqual([second, null])
      expect(yield* listed({ sessionKey: "ops" })).toEqual([second, first, null])
      expect(yield* listed({ sessionKey: "ops", agentId: "agent" })).toEqual([first, null])
      const [one, cursor] = yield* listed({ agentId: "other", limit: 1 })
      expect(one).toBe(third)
      expect(yield* listed({ agentId: "other", limit: 1, cursor: cursor ?? "" })).toContain(second)
      expect(yield* listed({ state: "running" })).toEqual([null])
      const shown = yield* runs.show({ path: { id: first } })
      expect(shown).toMatchObject({
        id: first,
        agentId: "agent",
        state: "completed",
        attempt: 1,
        text: expect.stringContaining("one"),
        task: expect.stringContaining("one"),
        inputTokens: 10
      })
      expect(shown.endedAt).toBeInstanceOf(Date)
      expect(yield* runs.show({ path: { id: second } })).toMatchObject({ state: "failed", error: "no" })
      expect(yield* problem(runs.show({ path: { id: "run_none" } }))).toMatchObject({
        status: 404,
        detail: 'there is no run "run_none"'
      })
      expect(yield* problem(runs.list({ urlParams: { cursor: "yesterday" } }))).toMatchObject({ status: 422 })
    }).pipe(
      Effect.provide(
        server({ agents: { agent: {}, other: {} } }, (task) =>
          task.payloadText.includes("fail")
            ? new AgentRunError({ message: "no", retryable: false })
            : Effect.succeed(result(`done: ${task.payloadText}`))
        )
      )
    )
  )
})

describe("jobs over HTTP", () => {
  it.scoped("are added, shown with their next instants, disabled, run by hand, and removed, by whom is recorded", () =>
    Effect.gen(function* () {
      const { jobs } = yield* client()
      const schedule = { kind: "cron", expression: "0 9 * * *", timezone: "UTC" } as const
      const rules = { catchUp: "once", overlap: "queue", graceMs: 0, maxCatchUp: 1, jitterMs: 0 } as const
      const standup = {
        name: "standup",
        schedule,
        instruction: "Summarize",
        disableAfterFailures: "never",
        ...rules
      } as const
      const { job, next } = yield* jobs.add({ payload: standup })
      expect(job).toMatchObject({ name: "standup", disableAfterFailures: "never" })
      expect(next.map((at) => at.getTime() / 3_600_000)).toEqual([9, 33, 57, 81, 105])
      const path = { jobId: job.id }
      expect(yield* jobs.disable({ path })).toMatchObject({ enabled: false })
      expect((yield* jobs.list()).jobs).toMatchObject([{ id: job.id, enabled: false }])
      const { eventId } = yield* jobs.run({ path })
      expect((yield* (yield* GatewayService).outcome(eventId)).event).toMatchObject({ source: "cron", sender: "ada" })
      expect(yield* jobs.show({ path, urlParams: {} })).toMatchObject({ job: { enabled: false }, next, history: [] })
      yield* jobs.remove({ path })
      for (const refused of [
        problem(jobs.remove({ path })),
        problem(jobs.enable({ path })),
        problem(jobs.disable({ path })),
        problem(jobs.run({ path }))
      ]) {
        expect(yield* refused).toMatchObject({
          status: 404,
          detail: `there is no job "${job.id}"`
        })
      }
      const never = { ...standup, schedule: { ...schedule, expression: "0 0 30 2 *" } }
      expect(yield* problem(jobs.add({ payload: never }))).toMatchObject({ status: 422 })
      const changes = yield* (yield* AuditLog).query({ kind: "job.changed" })
      expect(changes.map(({ data }) => [data.change, data.by])).toEqual([
        ["added", "ada"],
        ["disabled", "ada"],
        ["removed", "ada"]
      ])
    }).pipe(Effect.provide(server()))
  )
})

describe("sessions over HTTP", () => {
  const session = (key: string, agentId = "agent") =>
    JSON.stringify({ session: { key, agentId, updatedAt: "2026-01-01T00:00:00.000Z" } })
  const turn = (content: string, more = {}) =>
    JSON.stringify({ turn: { role: "user", content, at: "2026-01-01T00:00:00.000Z", ...more } })

  it.scoped("C5: go from one gateway to another as lines", () =>
    Effect.gen(function* () {
      const lines = yield* Effect.gen(function* () {
        for (const chatId of ["a", "b/c", "🐎"]) yield* say({ text: `hello from ${chatId}`, chatId })
        const { sessions } = yield* client()
        const listed = yield* sessions.list({ urlParams: { limit: 2 } })
        const rest = yield* sessions.list({ urlParams: { cursor: listed.next ?? "" } })
        expect([...listed.sessions, ...rest.sessions]).toHaveLength(3)
        expect(rest.next).toBeNull()
        return yield* all(sessions.export)
      }).pipe(Effect.provide(server()))
      expect(lines).toHaveLength(9)

      yield* Effect.gen(function* () {
        const { sessions } = yield* client()
        const payload = lines.join("\n")
        expect(yield* sessions.import({ payload, urlParams: {} })).toEqual({ sessions: 3, turns: 6 })
        expect(yield* all(sessions.export)).toEqual(lines)
        expect(yield* problem(sessions.import({ payload, urlParams: {} }))).toMatchObject({ status: 409 })
        const key = 'http:["ada","b/c"]'
        const { turns } = yield* sessions.show({ path: { key }, urlParams: { limit: 1 } })
        expect(turns).toMatchObject([{ role: "assistant" }])
        const earlier = yield* sessions.show({ path: { key }, urlParams: { before: turns[0]?.seq } })
        expect(earlier.turns).toMatchObject([{ role: "user", content: "hello from b/c", sender: "ada" }])
        yield* sessions.remove({ path: { key } })
        expect(yield* problem(sessions.show({ path: { key }, urlParams: {} }))).toMatchObject({ status: 404 })
        expect(yield* sessions.import({ payload, urlParams: { existing: "replace" } })).toMatchObject({ turns: 6 })
        expect(yield* all(sessions.export)).toEqual(lines)
        // What it said before is what the agent is shown when it is asked again.
        yield* say({ text: "and now?", chatId: "b/c" })
        expect((yield* sessions.show({ path: { key }, urlParams: {} })).turns).toHaveLength(4)
      }).pipe(Effect.provide(server()))
    })
  )

  it.scoped("are imported all, or, where a line is wrong, none: the refusal says which", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [line: string, detail: RegExp]> = [
        ["{", /line 3: .*JSON/],
        ["{}", /line 3: /],
        [turn("x", { role: "system" }), /line 3: turn\.role/],
        [turn("x", { seq: 1 }), /line 3: turn\.seq/],
        [turn("x", { at: "yesterday" }), /line 3: turn\.at/],
        [turn("\ud800"), /line 3: .*surrogate/],
        [session("a"), /line 3: the session "a" is there twice/],
        [session("b", "nobody"), /line 3: there is no agent "nobody"; agents: agent/]
      ]
      for (const [line, detail] of wrong) {
        const answer = yield* importing([session("a"), "", line, turn("after")].join("\n"))
        expect(answer, line).toMatchObject({ status: 422, body: { line: 3, detail: expect.stringMatching(detail) } })
      }
      expect((yield* importing(turn("x"))).body).toMatchObject({ line: 1 })
      expect(yield* (yield* SessionStore).list()).toEqual([])
      const audited = yield* (yield* AuditLog).query({ kind: "session.imported" })
      expect(audited).toEqual([])
    }).pipe(Effect.provide(server()))
  )

  it.scoped("may be more than other bodies, and not more than 16 MiB", () =>
    Effect.gen(function* () {
      const text = [session("a"), turn("x".repeat(5_000))].join("\n")
      expect(yield* importing(text)).toMatchObject({ status: 200, body: { sessions: 1, turns: 1 } })
      expect(yield* importing(" ".repeat(16 * 1_048_576 + 1))).toMatchObject({ status: 413 })
      const chat = yield* say({ text: "x".repeat(5_000) })
      expect(chat).toMatchObject({ status: 413 })
    }).pipe(Effect.provide(server({ maxBodyBytes: 1_000 })))
  )
})

describe("the audit over HTTP", () => {
  it.scoped("is read in pages, exported line by line, and verified against what was kept elsewhere", () =>
    Effect.gen(function* () {
      const { audit } = yield* client()
      const log = yield* AuditLog
      yield* (yield* Journal).step((tx) => {
        for (let n = 0; n < 2_000; n++) log.append(tx, { kind: "job.changed", data: { n } })
      })
      const { head, records } = yield* audit.query({ urlParams: { kind: "job.changed", limit: 2 } })
      expect(records).toMatchObject([{ data: { n: 0 } }, { data: { n: 1 } }])
      const last = yield* audit.query({ urlParams: { after: head - 1 } })
      expect(last.records.length).toBeGreaterThan(0)
      const lines = yield* all(audit.export)
      expect(lines.length).toBeGreaterThanOrEqual(head)
      const told = yield* all(audit.verify())
      expect(told.slice(0, -1).every((line) => "progress" in line)).toBe(true)
      expect(told.length).toBeGreaterThan(4)
      expect(told.at(-1)).toMatchObject({ verdict: { valid: true, from: 1 } })
      const kept = { seq: 3, hash: "0".repeat(64) }
      expect((yield* all(audit.verify({ checkpoints: [kept] }))).at(-1)).toMatchObject({
        verdict: { valid: false, seq: 3, records: 2 }
      })
      expect(yield* problem(all(audit.verify({ publicKey: "none" })))).toMatchObject({ status: 422 })
    }).pipe(Effect.provide(server()))
  )
})

describe("POST /shutdown", { timeout: 60_000 }, () => {
  it.scoped("is refused where the program does not listen", () =>
    Effect.gen(function* () {
      expect(yield* problem((yield* client()).gateway.shutdown())).toMatchObject({ status: 409 })
      expect((yield* request("/status", as(ADA))).status).toBe(200)
    }).pipe(Effect.provide(server()))
  )

  it.scopedLive("stops the process as SIGTERM does, once it is answered", () =>
    Effect.gen(function* () {
      const child = yield* start({ storage: ":memory:", tokens: { ada: ADA } })
      const url = yield* urlOf(child)
      const asked = requestAt(url, "/shutdown", { ...as(ADA), method: "POST" })
      // It tells where it is before it listens for this.
      const answer = yield* eventually(asked, ({ status }) => status !== 409)
      expect(answer).toMatchObject({ status: 202, body: { stopping: true, by: "ada" } })
      const { code, output } = yield* child.exit
      expect(code, output).toBe(0)
      expect(output).toContain("ada has asked the server to stop")
    })
  )
})
