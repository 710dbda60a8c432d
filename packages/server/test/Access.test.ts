import { describe, expect, it } from "@effect/vitest"
import { HttpAddress } from "@postilion/server"
import { ConfigProvider, Effect, Layer, TestClock } from "effect"
import { routes } from "./Routes.ts"
import { ADA, as, deliver, request, requestNamed, say, server } from "./Support.ts"

const changing = routes.filter(({ method }) => method !== "GET")
const bearer = { authorization: `Bearer ${ADA}` }
const failure = (config: Parameters<typeof server>[0]) =>
  Effect.flip(Effect.scoped(Layer.build(server({ tokens: {}, ...config }))))
const withEnvironment = (entries: Readonly<Record<string, string>>) =>
  Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(entries))))

describe("break-ins", () => {
  it.scoped("X2: CVE-2026-25593: nothing is changed without a token, from this machine neither", () =>
    Effect.gen(function* () {
      for (const { method, path } of changing) {
        const sent = { method, headers: { "content-type": "application/json" }, body: '{"agent":"sh -c id"}' }
        expect((yield* request(path, sent)).status, path).toBe(401)
      }
      const { body } = yield* request("/status", as(ADA))
      expect(body).toMatchObject({ switches: {} })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X3: CVE-2026-28472: that there is a token proves nothing, it has to be one", () =>
    Effect.gen(function* () {
      for (const token of ["x", ADA.slice(0, -1), `${ADA}${ADA}`, ADA.toUpperCase(), "pst_", "operator"]) {
        expect((yield* request("/status", as(token))).status, token).toBe(401)
      }
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X6: CVE-2026-28475: wrong tokens are counted by address, and nothing but wrong tokens", () =>
    Effect.gen(function* () {
      const from = (address: string, authorization?: string) =>
        request("/status", {
          headers: { "x-forwarded-for": address, ...(authorization === undefined ? {} : { authorization }) }
        })
      for (let n = 0; n < 20; n++) {
        expect((yield* from("192.0.2.1")).status).toBe(401)
        expect((yield* from("192.0.2.1", "Basic YTpi")).status).toBe(401)
        expect((yield* from("192.0.2.1", `Bearer ${ADA}`)).status).toBe(200)
        expect((yield* request("/livez")).status).toBe(200)
      }
      expect((yield* from("192.0.2.1", "Bearer one")).status).toBe(401)
      expect((yield* from("::ffff:192.0.2.1", "Bearer two")).status).toBe(401)
      expect((yield* from("::ffff:c000:201", "Bearer three")).status).toBe(401)
      const refused = yield* from("192.0.2.1", "Bearer four")
      expect(refused).toMatchObject({ status: 429, body: { reason: "too-many-attempts" } })
      expect(refused.headers.get("retry-after")).toBe("60")
      // Not even the right one: who guesses must not learn that they guessed it.
      expect((yield* from("192.0.2.1", `Bearer ${ADA}`)).status).toBe(429)
      expect((yield* from("192.0.2.2", `Bearer ${ADA}`)).status).toBe(200)
      for (const host of ["1", "2", "3"]) yield* from(`2001:db8::${host}`, "Bearer wrong")
      expect((yield* from("2001:db8::4", "Bearer wrong")).status).toBe(429)
      expect((yield* from("2001:db8:0:1::4", "Bearer wrong")).status).toBe(401)
      yield* TestClock.adjust("60 seconds")
      expect((yield* from("192.0.2.1", `Bearer ${ADA}`)).status).toBe(200)
    }).pipe(Effect.provide(server({ maxFailedAttempts: 3, trustedProxies: ["127.0.0.1"] })))
  )

  it.scoped("X6: an address that a client claims for itself is not believed", () =>
    Effect.gen(function* () {
      for (const address of ["192.0.2.1", "192.0.2.2", "192.0.2.3"]) {
        yield* request("/status", { headers: { "x-forwarded-for": address, authorization: "Bearer wrong" } })
      }
      expect((yield* request("/status", as("wrong"))).status).toBe(429)
    }).pipe(Effect.provide(server({ maxFailedAttempts: 3 })))
  )

  it.scoped("X7: a page in this machine's browser is not let in, nor does it use up anybody's attempts", () =>
    Effect.gen(function* () {
      const { port, url } = yield* HttpAddress
      const ask = (headers: Record<string, string>) => requestNamed("/status", { ...bearer, ...headers })
      for (const origin of [
        "https://evil.example.com",
        "http://localhost",
        "http://localhost:1",
        "null",
        `${url}.evil.com`
      ]) {
        expect(yield* ask({ origin }), origin).toMatchObject({
          status: 403,
          text: expect.stringContaining("wrong-origin")
        })
      }
      for (const origin of [url, url.toUpperCase()]) expect((yield* ask({ origin })).status, origin).toBe(200)
      const local = `localhost:${port}`
      expect((yield* ask({ host: local, origin: `http://${local}` })).status).toBe(200)
      expect((yield* ask({ host: local, origin: `https://${local}` })).status).toBe(403)
      for (let n = 0; n < 20; n++) {
        yield* requestNamed("/status", { authorization: "Bearer guess", origin: "https://evil.example.com" })
      }
      expect((yield* request("/status", as(ADA))).status).toBe(200)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("a page of an allowed origin may ask, and its browser shows it the answers", () => {
    const console = "https://console.example.com"
    return Effect.gen(function* () {
      const ask = (path: string, origin: string, init: RequestInit = {}) =>
        request(path, { ...init, headers: { ...bearer, origin, ...init.headers } })
      // As a browser asks first where a page sends a token, which it does not send along.
      const preflight = (path: string, origin: string) =>
        request(path, {
          method: "OPTIONS",
          headers: {
            origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization"
          }
        })
      const asked = yield* preflight("/chat", console)
      expect(asked.status).toBe(200)
      expect(Object.fromEntries(asked.headers)).toMatchObject({
        "access-control-allow-origin": console,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "authorization, content-type",
        vary: "origin"
      })
      const shown = { "access-control-allow-origin": console, vary: "origin" }
      const json = { "content-type": "application/json" }
      for (const [path, init, status] of [
        ["/status", {}, 200],
        ["/chat", { method: "POST", headers: json, body: '{"text":"hi"}' }, 200],
        ["/chat", { method: "POST", headers: json, body: "{" }, 400],
        ["/audit/export", {}, 200],
        ["/openapi.json", {}, 200],
        ["/nowhere", {}, 404]
      ] as const) {
        const answer = yield* ask(path, console, init)
        expect(answer.status, path).toBe(status)
        expect(Object.fromEntries(answer.headers), path).toMatchObject(shown)
      }
      const evil = "https://evil.example.com"
      for (const answer of [
        yield* preflight("/chat", evil),
        yield* ask("/status", evil),
        yield* request("/status", as(ADA))
      ]) {
        expect(answer.headers.get("access-control-allow-origin")).toBe(null)
      }
      expect((yield* preflight("/chat", evil)).status).toBe(405)
    }).pipe(Effect.provide(server({ allowedOrigins: [console] })))
  })

  it.scoped("X7: a name that was made to point here is not this gateway's (DNS rebinding)", () =>
    Effect.gen(function* () {
      const { port } = yield* HttpAddress
      for (const host of [`evil.example.com:${port}`, "192.0.2.7", `127.0.0.1.nip.io:${port}`, "localhost@x"]) {
        const answer = yield* requestNamed("/status", { ...bearer, host })
        expect(answer, host).toMatchObject({ status: 403, text: expect.stringContaining("wrong-host") })
        // As a page has it that was loaded from there: for its browser, the same origin.
        const page = { host, origin: `http://${host}`, "content-type": "application/json" }
        expect((yield* requestNamed("/webhooks/notes", page, "POST")).status, host).toBe(403)
      }
      for (const host of [
        `localhost:${port}`,
        `LOCALHOST:${port}`,
        `127.0.0.1:${port}`,
        `[::1]:${port}`,
        "localhost:9000"
      ]) {
        expect((yield* requestNamed("/status", { ...bearer, host })).status, host).toBe(200)
      }
      // Whoever sends webhooks is no browser, and knows the gateway by whatever name leads to it: here the signature is missing.
      const hook = { "content-type": "application/json", host: "hooks.example.com" }
      expect((yield* requestNamed("/webhooks/github", hook, "POST")).status).toBe(401)
      expect((yield* deliver("push", "d1")).status).toBe(202)
    }).pipe(
      Effect.provide(
        server({
          webhooks: [
            { path: "/github", adapter: "github", secret: "It's a Secret to Everybody" },
            { path: "/notes", adapter: "generic", unsigned: true }
          ]
        })
      )
    )
  )

  it.scoped("X15: openclaw#9435: a token in the query is refused, also beside one that counts", () =>
    Effect.gen(function* () {
      for (const { method, path } of routes) {
        for (const query of [`token=${ADA}`, `access_token=${ADA}`, `a=1&token=${ADA}`, "token="]) {
          for (const init of [{ method }, { ...as(ADA), method }]) {
            const answer = yield* request(`${path}?${query}`, init)
            expect(answer, path).toMatchObject({ status: 400, body: { reason: "token-in-query" } })
            expect(answer.text).not.toContain(ADA)
          }
        }
      }
    }).pipe(Effect.provide(server()))
  )
})

describe("a client", () => {
  it.scoped("sees what became of what it said, and of nothing else", () =>
    Effect.gen(function* () {
      const { body: said } = yield* say({ text: "hello" }, "token-of-bob")
      const { body: hers } = yield* say({ text: "hello" })
      const { body: hook } = yield* deliver("deployment", "d1")
      const show = (id: unknown, token: string) =>
        Effect.map(request(`/events/${id}`, as(token)), ({ status }) => status)
      expect(yield* show(said.eventId, "token-of-bob")).toBe(200)
      expect(yield* show(hers.eventId, "token-of-bob")).toBe(404)
      expect(yield* show(hook.eventId, "token-of-bob")).toBe(404)
      expect(yield* show(said.eventId, "token-of-eve")).toBe(404)
      for (const { eventId } of [said, hers, hook]) expect(yield* show(eventId, "token-of-vera")).toBe(200)
    }).pipe(
      Effect.provide(
        server({
          accessControl: { allowedSenders: ["ada", "bob"] },
          tokens: {
            ada: ADA,
            bob: { token: "token-of-bob", scopes: ["client"] },
            eve: { token: "token-of-eve", scopes: ["agent"] },
            vera: { token: "token-of-vera", scopes: ["viewer"] }
          }
        })
      )
    )
  )
})

describe("addresses that other machines reach", () => {
  it.scoped("are not listened at while nobody has a token", () =>
    Effect.gen(function* () {
      for (const host of ["0.0.0.0", "::"]) {
        expect(yield* failure({ host })).toMatchObject({
          _tag: "GatewayConfigError",
          path: "host",
          message: expect.stringMatching(/nobody has a token; set `tokens`/)
        })
      }
    }).pipe(withEnvironment({}))
  )

  it.scoped("are with a token, and known by any of their numbers and by no other name", () =>
    Effect.gen(function* () {
      const { port } = yield* HttpAddress
      const ask = (host: string) => requestNamed("/status", { ...bearer, host })
      for (const host of ["192.0.2.7", "127.0.0.1", "[2001:db8::1]", "localhost", "ops.example.com"]) {
        expect((yield* ask(`${host}:${port}`)).status, host).toBe(200)
      }
      for (const host of ["evil.example.com", "192.0.2.7.nip.io"]) {
        expect((yield* ask(`${host}:${port}`)).status, host).toBe(403)
      }
    }).pipe(
      Effect.provide(Layer.unwrapScoped(Effect.succeed(server({ host: "0.0.0.0", allowedHosts: ["ops.example.com"] }))))
    )
  )
})

describe("POSTILION_TOKEN", () => {
  it.scoped("is an operator's", () =>
    Effect.gen(function* () {
      expect((yield* request("/status", as("from-the-environment"))).status).toBe(200)
      expect((yield* request("/pause", { ...as("from-the-environment"), method: "POST" })).body).toMatchObject({
        by: "operator"
      })
      expect((yield* request("/status", as(ADA))).status).toBe(401)
    }).pipe(
      Effect.provide(server({ tokens: {}, host: "0.0.0.0" })),
      withEnvironment({ POSTILION_TOKEN: "from-the-environment" })
    )
  )

  it.scoped("is refused where no header could carry it", () =>
    Effect.gen(function* () {
      for (const token of ["", "two words"]) {
        const error = yield* withEnvironment({ POSTILION_TOKEN: token })(failure({}))
        expect(error).toMatchObject({
          path: "POSTILION_TOKEN",
          message: expect.stringContaining("a token has one or more")
        })
        if (token !== "") expect(error.message).not.toContain(token)
      }
    })
  )
})
