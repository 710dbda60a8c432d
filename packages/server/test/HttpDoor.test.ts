import { request as httpRequest } from "node:http"
import { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { ChannelConnectionError, GatewayService, PolicyEngine } from "@postilion/gateway"
import { HttpAddress, HttpListener } from "@postilion/server"
import { Effect, Exit, Layer, Scope, TestClock } from "effect"
import { routes } from "./Routes.ts"
import { ADA, as, deliver, delivery, eventually, rawConnection, request, say, server } from "./Support.ts"

describe("health", () => {
  it.scoped("livez, readyz and startupz need no token", () =>
    Effect.gen(function* () {
      expect(yield* request("/livez")).toMatchObject({ status: 200, body: { status: "ok" } })
      expect(yield* request("/readyz")).toMatchObject({ status: 200, body: { status: "ready" } })
      expect(yield* request("/startupz")).toMatchObject({ status: 200, body: { status: "started" } })
      expect(yield* request("/readyz?verbose=1")).toMatchObject({ status: 200 })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("readyz is 503 while the storage does not answer, and livez is not", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER TABLE switches RENAME TO gone`
      expect(yield* request("/readyz")).toMatchObject({ status: 503, body: { detail: "the storage does not answer" } })
      expect(yield* request("/livez")).toMatchObject({ status: 200 })
      yield* sql`ALTER TABLE gone RENAME TO switches`
      yield* TestClock.adjust("11 seconds")
      expect(yield* request("/readyz")).toMatchObject({ status: 200 })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("N8: readyz is 503 while jobs that are due do not fire, and says since when", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const scope = yield* Scope.make()
      // Whoever writes waits for the one connection.
      yield* Scope.extend(sql.reserve, scope)
      yield* TestClock.adjust("3 minutes")
      expect(yield* request("/livez")).toMatchObject({ status: 200 })
      yield* TestClock.adjust("1 second")
      expect(yield* request("/readyz")).toMatchObject({
        status: 503,
        body: { detail: "the scheduler has stalled: jobs were due at 1970-01-01T00:01:00.000Z" }
      })
      yield* Scope.close(scope, Exit.void)
      yield* eventually(request("/readyz"), ({ status }) => status === 200)
      const { body } = yield* request("/status", as(ADA))
      expect(body).toMatchObject({ scheduler: { running: true, stalled: false } })
    }).pipe(Effect.provide(server({ crons: [{ schedule: "* * * * *", instruction: "look" }] })))
  )

  it.scoped("before the gateway is up, everything but livez is told to come back", () =>
    Effect.gen(function* () {
      expect((yield* request("/livez")).status).toBe(200)
      for (const path of ["/readyz", "/startupz", "/status", "/webhooks/github"]) {
        const answer = yield* request(path)
        expect(answer).toMatchObject({ status: 503, body: { title: "Service Unavailable" } })
        expect(answer.headers.get("retry-after")).toBe("5")
      }
    }).pipe(
      Effect.provide(HttpListener.layer({ host: "127.0.0.1", port: 0, maxBodyBytes: 1_000, bodyTimeoutMs: 1_000 }))
    )
  )
})

describe("X16: one authorization for every door", () => {
  it.scoped("nothing is answered without a token that is right, and sent as it has to be", () =>
    Effect.gen(function* () {
      for (const { method, path } of routes) {
        const what = `${method} ${path}`
        const refused = (headers: Record<string, string>, at = path) =>
          Effect.map(request(at, { method, headers }), (answer) => {
            expect(answer, what).toMatchObject({ status: 401, body: { title: "Unauthorized" } })
            expect(answer.headers.get("www-authenticate"), what).toMatch(/^Bearer/)
            expect(answer.text, what).not.toContain(ADA)
          })
        yield* refused({})
        for (const value of ["", "Bearer", "Bearer ", `Bearer ${ADA}x`, `Bearer ${ADA} x`, `Basic ${ADA}`, ADA]) {
          yield* refused({ authorization: value })
        }
        yield* refused({}, `${path}?authorization=Bearer%20${ADA}`)
        yield* refused({ cookie: `token=${ADA}`, "x-token": ADA })
      }
      for (const { method, path } of routes) {
        for (const scheme of ["Bearer", "bearer", "BEARER"]) {
          const answer = yield* request(path, { method, headers: { authorization: `${scheme} ${ADA}` } })
          expect(answer.status, `${method} ${path}`).not.toBe(401)
        }
      }
    }).pipe(Effect.provide(server({ maxFailedAttempts: 100_000 })))
  )

  it.scoped("without any token configured, nobody has one", () =>
    Effect.gen(function* () {
      for (const { method, path } of routes) {
        const answer = yield* request(path, { method, headers: { authorization: "" } })
        expect(answer).toMatchObject({ status: 401, body: { detail: expect.stringContaining("set `tokens:") } })
      }
      for (const authorization of ["Bearer undefined", "Bearer null"]) {
        expect(yield* request("/status", { headers: { authorization } })).toMatchObject({ status: 401 })
      }
      expect((yield* deliver("push", "d1")).status).toBe(202)
    }).pipe(Effect.provide(server({ tokens: {} })))
  )
})

describe("the routes", () => {
  it.scoped("status and events, as JSON", () =>
    Effect.gen(function* () {
      const { body } = yield* deliver("deployment", "d1")
      yield* (yield* GatewayService).outcome(String(body.eventId))
      const status = yield* request("/status", as(ADA))
      expect(status).toMatchObject({ status: 200, body: { isRunning: true, stats: { webhooksReceived: 1 } } })
      expect(status.headers.get("content-type")).toBe("application/json")
      expect(yield* request(`/events/${body.eventId}`, as(ADA))).toMatchObject({
        status: 200,
        body: { policy: "default" }
      })
      const head = yield* request("/status", { ...as(ADA), method: "HEAD" })
      expect(head).toMatchObject({ status: 200, text: "" })
      expect(Number(head.headers.get("content-length"))).toBeGreaterThan(100)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("approvals are listed, approved and denied, by the principal of the token", () =>
    Effect.gen(function* () {
      yield* deliver("deployment", "d1")
      yield* deliver("deployment", "d2")
      const gateway = yield* GatewayService
      const [first, second] = yield* gateway.approvals
      const listed = yield* request("/approvals", as(ADA))
      expect(listed.body.approvals).toMatchObject([{ id: first?.id }, { id: second?.id, state: "pending" }])
      const answer = (id: string | undefined, verb: string) =>
        request(`/approvals/${id}/${verb}`, { ...as(ADA), method: "POST" })
      expect(yield* answer(first?.id, "approve")).toMatchObject({
        status: 200,
        body: { id: first?.id, state: "approved", by: "ada" }
      })
      expect((yield* answer(second?.id, "deny")).status).toBe(200)
      expect((yield* answer(second?.id, "approve")).status).toBe(409)
      expect((yield* answer("apr_none", "approve")).status).toBe(404)
      expect(yield* gateway.outcome(first?.eventId ?? "")).toMatchObject({
        approval: { decidedBy: "ada" },
        state: "executed"
      })
      expect(yield* gateway.outcome(second?.eventId ?? "")).toMatchObject({ state: "denied" })
    }).pipe(Effect.provide(server({ policies: { requireApprovalFor: ["deploy"] } })))
  )

  it.scoped("X18: what is nowhere is 404, and what is elsewhere 405", () =>
    Effect.gen(function* () {
      const nowhere = [
        "/",
        "//",
        "//status",
        "/status/",
        "/Status",
        "/constructor",
        "/__proto__",
        "/%zz",
        "/%2573tatus",
        "/events/",
        "/events/a/b",
        "/approvals/apr_1/constructor",
        "/webhooks"
      ]
      for (const path of nowhere) {
        expect(yield* request(path, as(ADA)), path).toMatchObject({ status: 404, body: { title: "Not Found" } })
      }
      for (const path of ["/events/constructor", "/events/%zz", "/events/__proto__"]) {
        expect(yield* request(path, as(ADA)), path).toMatchObject({ status: 404 })
      }
      const probes = ["/livez", "/readyz", "/startupz"].map((path) => ({ method: "GET", path }))
      for (const { path } of [...routes, ...probes]) {
        const wrong = yield* request(path, { ...as(ADA), method: "PATCH" })
        expect(wrong, path).toMatchObject({ status: 405 })
        const methods = [...routes, ...probes].filter((route) => route.path === path).map(({ method }) => method)
        expect(wrong.headers.get("allow")).toBe(methods.join(", ").replace("GET", "GET, HEAD"))
      }
      const raw = yield* rawConnection
      raw.socket.write("GET http://elsewhere/status HTTP/1.1\r\nhost: x\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n")
      yield* raw.received(/404 Not Found[\s\S]*404 Not Found/)
      expect((yield* request("/livez")).status).toBe(200)
    }).pipe(Effect.provide(server()))
  )
})

describe("bodies have limits", () => {
  const chunked = (url: string, chunks: ReadonlyArray<string>) =>
    Effect.async<number>((resume) => {
      const sent = httpRequest(`${url}/webhooks/github`, { method: "POST" }, (response) => {
        response.resume()
        resume(Effect.succeed(response.statusCode ?? 0))
      })
      for (const chunk of chunks) sent.write(chunk)
      sent.end()
    })

  it.scoped("413, told from the content-length before the body is sent", () =>
    Effect.gen(function* () {
      const raw = yield* rawConnection
      raw.socket.write("POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
      expect(yield* raw.received(/\}$/)).toMatch(/^HTTP\/1.1 413 [\s\S]*larger than 1000 bytes/)
    }).pipe(Effect.provide(server({ maxBodyBytes: 1_000 })))
  )

  it.scoped("413, told from the bytes where there is no content-length; a limit's worth is let in", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      expect(yield* chunked(url, ["x".repeat(600), "x".repeat(401)])).toBe(413)
      expect(yield* chunked(url, ["x".repeat(600), "x".repeat(400)])).toBe(415)
    }).pipe(Effect.provide(server({ maxBodyBytes: 1_000 })))
  )

  it.scoped("whoever sent too much still gets the answer, and may go on", () =>
    Effect.gen(function* () {
      const raw = yield* rawConnection
      const body = "x".repeat(300_000)
      raw.socket.write(`POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
      raw.socket.write("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
      expect(yield* raw.received(/\{"status":"ok"\}$/)).toMatch(/^HTTP\/1.1 413 [\s\S]*HTTP\/1.1 200 OK/)
    }).pipe(Effect.provide(server({ maxBodyBytes: 1_000 })))
  )

  it.scopedLive("408 when the body does not arrive in time", () =>
    Effect.gen(function* () {
      const raw = yield* rawConnection
      raw.socket.write('POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"')
      expect(yield* raw.ended).toMatch(/^HTTP\/1.1 408 [\s\S]*connection: close[\s\S]*longer than 40 ms/i)
    }).pipe(Effect.provide(server({ bodyTimeoutMs: 40 })))
  )

  it.scopedLive("who never stops sending is cut off", () =>
    Effect.gen(function* () {
      const raw = yield* rawConnection
      raw.socket.write("POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\nxxx")
      expect(yield* raw.ended).toMatch(/^HTTP\/1.1 413 /)
    }).pipe(Effect.provide(server({ bodyTimeoutMs: 40, maxBodyBytes: 1_000 })))
  )

  it.scoped("a body that never comes does not keep others waiting, and one cut off harms nobody", () =>
    Effect.gen(function* () {
      const raw = yield* rawConnection
      raw.socket.write("POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nxx")
      expect((yield* deliver("push", "d1")).status).toBe(202)
      raw.socket.destroy()
      expect((yield* deliver("push", "d2")).status).toBe(202)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("what is not HTTP is answered 400", () =>
    Effect.gen(function* () {
      const raw = yield* rawConnection
      raw.socket.write("\u0016\u0003\u0001 hello\r\n\r\n")
      expect(yield* raw.ended).toMatch(/^HTTP\/1.1 400 /)
      expect((yield* request("/webhooks/github", delivery("push", "d1"))).status).toBe(202)
    }).pipe(Effect.provide(server()))
  )
})

describe("the address", () => {
  it.scoped("a port in use is said, with what to do", () =>
    Effect.gen(function* () {
      const { port } = yield* HttpAddress
      const error = yield* Effect.flip(Effect.scoped(Layer.build(server({ port }))))
      expect(error).toBeInstanceOf(ChannelConnectionError)
      expect(error).toMatchObject({
        channel: "http",
        message: `cannot listen at http://127.0.0.1:${port}: the port is in use; stop what uses it, or set another \`port\` (0: any that is free)`
      })
      expect((yield* request("/readyz")).status).toBe(200)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("so is an address this machine does not have", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(server({ host: "192.0.2.1" }))))
      expect(error).toMatchObject({ channel: "http", message: expect.stringContaining("set `host` to one it has") })
    })
  )
})

describe("a gateway that is behind", () => {
  it.scoped("refuses at every door with 503, when to come back, and why", () =>
    Effect.gen(function* () {
      yield* (yield* PolicyEngine).addPolicy({ _tag: "Silent", priority: 1, evaluate: () => Effect.never })
      expect((yield* deliver("push", "d1")).status).toBe(202)
      for (const refused of [yield* deliver("push", "d2"), yield* say({ text: "hello" })]) {
        expect(refused).toMatchObject({ status: 503, body: { reason: "overloaded" } })
        expect(refused.headers.get("retry-after")).toBe("1")
      }
      // What people and probes ask is no more work.
      expect((yield* request("/status", as(ADA))).status).toBe(200)
      expect((yield* request("/readyz")).status).toBe(200)
    }).pipe(Effect.provide(server({ limits: { maxInbox: 1 } })))
  )
})
