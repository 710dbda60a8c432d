import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { type Channel, Policy, PolicyEngine } from "@postilion/gateway"
import { ChannelSendError } from "@postilion/gateway/domain/Errors"
import { Shutdown } from "@postilion/server"
import { Effect } from "effect"
import { document } from "../src/api/Document.ts"
import { documented } from "./OpenApi.ts"
import { eventually, request, requestNamed, server } from "./Support.ts"

/** A channel that takes nothing. */
const closed: Channel = {
  name: "closed",
  deduplicates: false,
  send: () => Effect.fail(new ChannelSendError({ channel: "closed", outcome: "rejected", message: "nobody is there" }))
}

const alerts = { channel: "alerts" }
const text = (value: unknown): string => String(value)
const idIn = (list: unknown, at = 0): string => {
  const one: unknown = Array.isArray(list) ? list[at] : undefined
  return typeof one === "object" && one !== null && "id" in one ? text(one.id) : ""
}

describe("the OpenAPI document", () => {
  it("docs/openapi.json is what is served; else run `node scripts/openapi.mjs`", () => {
    const file = join(import.meta.dirname, "../../../docs/openapi.json")
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(JSON.stringify(document())))
  })

  it.scoped("has what it refers to, each operation once, and a bearer token where one is needed", () =>
    Effect.gen(function* () {
      const { components, operations, text } = yield* documented
      const named = new Set(operations.map(({ operationId }) => operationId))
      expect(named.size).toBe(operations.length)
      expect(operations.length).toBeGreaterThan(45)
      for (const [, kind = "", name = ""] of text.matchAll(/#\/components\/(\w+)\/(\w+)/g)) {
        expect(Object.keys(kind === "schemas" ? components.schemas : components.responses), name).toContain(name)
      }
      for (const { description, operationId, security } of operations) {
        const isOpen = operationId.startsWith("health.")
        expect(security, operationId).toEqual(isOpen ? [] : [{ bearer: [] }])
        expect(/For tokens with the scope `operator`/.test(description), operationId).toBe(!isOpen)
      }
    }).pipe(Effect.provide(server()))
  )

  it.scoped("is true: every operation, asked by it, answers as it says", () =>
    Effect.gen(function* () {
      const { ask, linesOf, operations, reached } = yield* documented
      const engine = yield* PolicyEngine
      yield* engine.addShadow(Policy.make("Freeze", { priority: 15, evaluate: () => Policy.skip("frozen") }))

      for (const probe of ["health.live", "health.started", "health.ready"]) yield* ask(probe, { token: null })
      const submitted = yield* ask("events.submit", {
        body: {
          payload: { disk: "91 %" },
          metadata: { type: "disk" },
          sessionKey: "ops:1",
          replyTo: { channel: "closed", target: "x" },
          idempotencyKey: "disk-91"
        }
      })
      const eventId = text(submitted.body.eventId)
      yield* eventually(ask("events.show", { path: { eventId } }), ({ body }) => "delivery" in body)
      const listed = yield* ask("events.list", { query: { source: "state-change", limit: "1" } })
      expect(idIn(listed.body.events)).toBe(eventId)
      yield* ask("events.explain", { path: { eventId } })
      expect((yield* ask("events.explain", { path: { eventId }, headers: { accept: "text/plain" } })).text).toContain(
        eventId
      )

      yield* eventually(
        ask("deliveries.list", { query: { state: "failed" } }),
        ({ body }) => idIn(body.deliveries) !== ""
      )
      const failed = yield* ask("deliveries.list", { query: { state: "failed", limit: "10", after: "0" } })
      const deliveryId = idIn(failed.body.deliveries)
      yield* ask("deliveries.drop", { path: { deliveryId } })
      yield* ask("deliveries.replay", { path: { deliveryId } })

      yield* ask("chat.say", { body: { text: "hello" } })
      for (const type of ["deploy", "deploy"])
        yield* ask("events.submit", { body: { payload: null, metadata: { type } } })
      const waiting = yield* ask("approvals.list")
      const approvals = [0, 1].map((at) => ({ path: { approvalId: idIn(waiting.body.approvals, at) } }))
      const [first = {}, second = {}] = approvals
      yield* ask("approvals.show", first)
      yield* ask("approvals.approve", first)
      yield* ask("approvals.deny", { ...second, body: {} })

      for (const verb of ["pause", "stop", "terminate", "resume"]) {
        yield* ask(`switches.${verb}`)
        yield* ask(`switches.${verb}Agent`, { path: { agentId: "agent" } })
      }
      for (const id of ["gateway.status", "gateway.metrics", "gateway.agents", "gateway.release"]) yield* ask(id)
      yield* ask("gateway.route", { query: { source: "channel", context: "group", chat: "c1", peer: "ada" } })
      yield* ask("gateway.budget", { query: { from: "1970-01-01" } })

      const made = yield* ask("tokens.create", { body: { name: "bob", scopes: ["viewer"], expiresInSeconds: 60 } })
      yield* ask("tokens.list")
      yield* ask("tokens.revoke", { path: { tokenId: text(made.body.id) } })

      const added = yield* ask("jobs.add", {
        body: {
          name: "standup",
          schedule: { kind: "cron", expression: "0 9 * * MON-FRI", timezone: "Europe/Berlin" },
          instruction: "Summarize the night",
          catchUp: "skip"
        }
      })
      const jobId = idIn([added.body.job])
      yield* ask("jobs.list")
      yield* ask("jobs.run", { path: { jobId } })
      yield* ask("jobs.disable", { path: { jobId } })
      yield* ask("jobs.enable", { path: { jobId } })
      yield* ask("jobs.show", { path: { jobId }, query: { limit: "5" } })
      yield* ask("jobs.remove", { path: { jobId } })

      yield* ask("push.poll", { path: alerts, query: { subscription: "pager", timeout: "0" } })
      const told = yield* ask("push.publish", { path: alerts, body: { id: "m1", data: { disk: "91 %" } } })
      for (const data of ["two", "three"]) yield* ask("push.publish", { path: alerts, body: { data } })
      const polled = yield* ask("push.poll", { path: alerts, query: { subscription: "pager", since: "0", limit: "5" } })
      expect(polled.body.messages).toMatchObject([{ id: "m1", attempt: 1 }, { data: "two" }, { data: "three" }])
      const cursor = Number(told.body.cursor)
      const nack = { subscription: "pager", cursors: [cursor, cursor + 1], requeue: false, reason: "no pager" }
      yield* ask("push.nack", { path: alerts, body: nack })
      yield* ask("push.ack", { path: alerts, body: { subscription: "pager", cursors: [cursor + 2] } })
      yield* ask("push.presence", { path: alerts })
      const letters = yield* ask("deadLetters.list", { query: { channel: "alerts", limit: "2" } })
      yield* ask("deadLetters.replay", { path: { letterId: idIn(letters.body.deadLetters) } })
      yield* ask("deadLetters.drop", { path: { letterId: idIn(letters.body.deadLetters, 1) } })
      yield* ask("push.forget", { path: { ...alerts, subscription: "pager" } })

      yield* ask("switches.pause")
      const held = yield* ask("events.submit", { body: { payload: null } })
      const query = { state: "pending", agentId: "agent", limit: "5" }
      const runs = yield* ask("runs.list", { query })
      yield* ask("runs.show", { path: { id: idIn(runs.body.runs) } })
      yield* ask("runs.abort", { path: { id: text(held.body.eventId) } })
      yield* ask("switches.resume")

      yield* ask("policies.list")
      yield* ask("policies.promote", { path: { policy: "Freeze" } })

      const exported = yield* ask("sessions.export")
      expect(linesOf(exported, "SessionLine").length).toBeGreaterThan(2)
      yield* ask("sessions.list")
      yield* ask("sessions.show", { path: { key: "ops:1" }, query: { limit: "1" } })
      yield* ask("sessions.remove", { path: { key: "ops:1" } })
      yield* ask("sessions.import", { query: { existing: "replace" }, body: exported.text })

      yield* ask("audit.query", { query: { kind: "event.decided", limit: "2" } })
      expect(linesOf(yield* ask("audit.export"), "AuditLine").length).toBeGreaterThan(20)
      expect(linesOf(yield* ask("audit.verify"), "AuditVerification").at(-1)).toMatchObject({
        verdict: { valid: true, from: 1 }
      })

      yield* Effect.fork((yield* Shutdown).requested)
      yield* eventually(ask("gateway.shutdown"), ({ status }) => status === 202)
      expect([...reached].sort()).toEqual(operations.map(({ operationId }) => operationId).sort())
    }).pipe(Effect.provide(server({ policies: { requireApprovalFor: ["deploy"] } }, undefined, { channels: [closed] })))
  )

  it.scoped("is true of refusals: without a token, of what there is not, of what is not a body or a query", () =>
    Effect.gen(function* () {
      const { ask, operations } = yield* documented
      for (const { operationId, parameters, requestBody, security, template } of operations) {
        const nowhere = Object.fromEntries([...template.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => [name, "x"]))
        const expected = (status: number, asking: Parameters<typeof ask>[1]) =>
          Effect.map(ask(operationId, { path: nowhere, ...asking }), (answer) =>
            expect(answer.status, `${operationId}: ${answer.text}`).toBe(status)
          )
        if (security.length > 0) yield* expected(401, { token: null })
        if (security.length > 0) yield* expected(400, { query: { token: "x" } })
        const [type] = Object.keys(requestBody?.content ?? {})
        if (type === "application/json") {
          yield* expected(415, { body: "x", headers: { "content-type": "text/plain" } })
          yield* expected(400, { body: "{" })
          yield* expected(422, { body: { nobody: "knows this" } })
        } else if (type !== undefined) yield* expected(422, { body: "{" })
        const isNamed = parameters.some((parameter) => parameter.in === "path")
        // Any name may be a channel's, but not every text is a name.
        const path = { ...nowhere, channel: "no name" }
        if (isNamed) yield* expected(404, { path, ...(requestBody === undefined ? {} : { body: {} }) })
        if (parameters.some((parameter) => parameter.in === "query")) {
          yield* expected(422, { query: { limit: "many", from: "never", existing: "perhaps" } })
        }
      }
    }).pipe(Effect.provide(server({ maxFailedAttempts: 1_000 })))
  )
})

describe("the page at /docs", () => {
  it.scoped("shows the document, and loads nothing from elsewhere", () =>
    Effect.gen(function* () {
      const page = yield* request("/docs")
      expect(page.status).toBe(200)
      expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8")
      expect(page.headers.get("content-security-policy")).toContain("default-src 'none'")
      expect(page.text).toContain("/approvals/{approvalId}/approve")
      expect(page.text).toContain("SwaggerUIBundle")
      expect(page.text).not.toMatch(/<(script|link|img|iframe)[^>]+(src|href)=/i)
      expect((yield* request("/docs", { method: "POST" })).headers.get("allow")).toBe("GET, HEAD")
      expect((yield* requestNamed("/docs", { host: "evil.example" })).status).toBe(403)
      expect((yield* requestNamed("/openapi.json", { origin: "https://evil.example" })).status).toBe(403)
    }).pipe(Effect.provide(server()))
  )
})
