import { existsSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it, vi } from "@effect/vitest"
import { EventBus, GatewayService } from "@postilion/gateway"
import { GatewayConfig } from "@postilion/gateway/domain/Config"
import * as EventBusModule from "@postilion/gateway/records/EventBus"
import { HttpAddress, Postilion, PostilionConfig } from "@postilion/server"
import { Effect, Layer } from "effect"
import { sslOf } from "./Fixtures.ts"
import { receiver } from "./Receiver.ts"
import {
  ADA,
  as,
  deliver,
  done,
  eventually,
  type Respond,
  rawConnection,
  request,
  requestNamed,
  runsIn,
  say,
  server,
  tempDir
} from "./Support.ts"
import { connected } from "./Wire.ts"

const failure = (config: Record<string, unknown>) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(server(config)))), ({ message }) => message)

type OwnKey = Exclude<keyof typeof PostilionConfig.fields, keyof typeof GatewayConfig.fields>

/** One test a key, so that no key is decoded and never read. Those below these are in ConfigKeys.test.ts, one by one. */
const effects: { readonly [K in OwnKey]: Effect.Effect<void, unknown> } = {
  audit: Effect.gen(function* () {
    expect(yield* failure({ audit: { signingKeyFile: "/nowhere/key.pem" } })).toContain("cannot be read")
  }),
  storage: Effect.gen(function* () {
    const storage = join(yield* tempDir, "elsewhere.sqlite")
    yield* Effect.provide(Effect.void, server({ storage }))
    expect(existsSync(storage)).toBe(true)
  }).pipe(Effect.scoped),
  host: Effect.gen(function* () {
    expect(yield* HttpAddress).toMatchObject({
      host: "localhost",
      url: expect.stringMatching(/^http:\/\/localhost:\d+$/)
    })
    expect((yield* request("/livez")).status).toBe(200)
  }).pipe(Effect.provide(server({ host: "localhost" }))),
  port: Effect.gen(function* () {
    const { port } = yield* HttpAddress
    expect(yield* failure({ port })).toContain(`:${port}: the port is in use`)
  }).pipe(Effect.provide(server())),
  tokens: Effect.gen(function* () {
    expect((yield* request("/status", as("s3cr3t"))).status).toBe(200)
    expect((yield* request("/status", as(ADA))).status).toBe(401)
    expect((yield* request("/status", as("v1ewer"))).status).toBe(200)
    expect((yield* request("/pause", { ...as("v1ewer"), method: "POST" })).status).toBe(403)
  }).pipe(Effect.provide(server({ tokens: { bob: "s3cr3t", vera: { token: "v1ewer", scopes: ["viewer"] } } }))),
  // More of it in OutsideAgents.test.ts.
  outside: Effect.gen(function* () {
    const { body } = yield* request("/status", as(ADA))
    expect(body.agents).toMatchObject([
      { id: "agent", limit: 8 },
      { id: "far", limit: 0 }
    ])
    const error = 'outside.near: there is no agent "near"; agents: agent'
    expect(yield* failure({ outside: { near: {} } })).toContain(error)
  }).pipe(Effect.provide(server({ agents: { agent: {}, far: {} }, outside: { far: {} } }))),
  // More of these in Access.test.ts.
  maxFailedAttempts: Effect.gen(function* () {
    expect((yield* request("/status", as("wrong"))).status).toBe(401)
    expect((yield* request("/status", as("wrong"))).status).toBe(429)
  }).pipe(Effect.provide(server({ maxFailedAttempts: 1 }))),
  allowedOrigins: Effect.gen(function* () {
    const from = (origin: string) => request("/status", { headers: { authorization: `Bearer ${ADA}`, origin } })
    expect((yield* from("https://console.example.com")).status).toBe(200)
    expect((yield* from("https://evil.example.com")).status).toBe(403)
  }).pipe(Effect.provide(server({ allowedOrigins: ["https://console.example.com"] }))),
  allowedHosts: Effect.gen(function* () {
    const named = (host: string) => requestNamed("/status", { authorization: `Bearer ${ADA}`, host })
    expect((yield* named("ops.example.com")).status).toBe(200)
    expect((yield* named("evil.example.com")).status).toBe(403)
  }).pipe(Effect.provide(server({ allowedHosts: ["ops.example.com"] }))),
  trustedProxies: Effect.gen(function* () {
    const from = (address: string) =>
      request("/status", { headers: { authorization: "Bearer wrong", "x-forwarded-for": address } })
    expect((yield* from("192.0.2.1")).status).toBe(401)
    expect((yield* from("192.0.2.1")).status).toBe(429)
    expect((yield* from("192.0.2.2")).status).toBe(401)
  }).pipe(Effect.provide(server({ maxFailedAttempts: 1, trustedProxies: ["127.0.0.0/8"] }))),
  // More of it in Tls.test.ts.
  ssl: Effect.gen(function* () {
    expect(yield* HttpAddress).toMatchObject({ url: expect.stringMatching(/^https:/) })
  }).pipe(Effect.provide(server({ ssl: sslOf("server") }))),
  maxBodyBytes: Effect.gen(function* () {
    expect((yield* deliver("push", "d1", { body: "x".repeat(11) })).status).toBe(413)
    expect((yield* deliver("push", "d2", { body: "x".repeat(10) })).status).toBe(400)
  }).pipe(Effect.provide(server({ maxBodyBytes: 10 }))),
  bodyTimeoutMs: Effect.gen(function* () {
    const raw = yield* rawConnection
    raw.socket.write("POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
    expect(yield* raw.ended).toContain("longer than 20 ms")
  }).pipe(Effect.scoped, Effect.provide(server({ bodyTimeoutMs: 20 }))),
  drainDeadlineMs: Effect.gen(function* () {
    const storage = join(yield* tempDir, "ops.sqlite")
    yield* Effect.gen(function* () {
      yield* deliver("deployment", "d1")
      const gateway = yield* GatewayService
      yield* eventually(gateway.status(), ({ pending }) => pending.running === 1)
    }).pipe(Effect.provide(server({ storage, drainDeadlineMs: 10 }, () => Effect.never)))
    expect(yield* runsIn(storage)).toMatchObject([{ state: "running" }])
  }).pipe(Effect.scoped),
  webSocket: Effect.gen(function* () {
    const wire = yield* connected(ADA)
    wire.send("x".repeat(200))
    expect(yield* wire.closed).toBe(1009)
  }).pipe(Effect.scoped, Effect.provide(server({ webSocket: { maxPayload: 199 } }))),
  push: Effect.gen(function* () {
    const wire = yield* connected(ADA)
    const { error } = yield* wire.ask("push.publish", { channel: "alerts", id: "m", data: "1234567" })
    expect(error).toMatchObject({ data: { code: "forbidden" } })
  }).pipe(Effect.scoped, Effect.provide(server({ push: { channels: { alerts: { publish: ["agent"] } } } }))),
  observability: Effect.gen(function* () {
    const said = (logLevel: "warning" | "error") =>
      Effect.gen(function* () {
        const log = vi.spyOn(console, "log").mockImplementation(() => {})
        yield* Effect.addFinalizer(() => Effect.sync(() => log.mockRestore()))
        const thinking: Respond = (task) => Effect.zipLeft(done(task), Effect.logWarning("thinking"))
        yield* Effect.provide(say({ text: "hello" }), server({ observability: { logLevel } }, thinking))
        return log.mock.calls.some(([line]) => String(line).includes("thinking"))
      }).pipe(Effect.scoped)
    expect([yield* said("warning"), yield* said("error")]).toEqual([true, false])
  }),
  channels: Effect.gen(function* () {
    const { received, url } = yield* receiver()
    const hook = { platform: "callback" as const, url, secret: "s3cret", allowPrivate: true }
    const to = (replyTo: string) => say({ text: "hello", replyTo })
    const sent = Effect.gen(function* () {
      expect((yield* to("hook")).status).toBe(200)
      expect((yield* to("other")).status).toBe(422)
      yield* eventually(
        Effect.sync(() => received.length),
        (length) => length === 1
      )
    })
    yield* Effect.provide(sent, server({ channels: { hook } }))
  }).pipe(Effect.scoped)
}

describe("Postilion.layer", () => {
  it.scoped("gives a gateway, a door to it, and their address", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const { host, port, url } = yield* HttpAddress
      expect(url).toBe(`http://${host}:${port}`)
      expect(port).toBeGreaterThan(0)
      const { eventId } = yield* gateway.submit({ source: "state-change", payload: { disk: "91%" }, priority: "high" })
      const outcome = yield* gateway.outcome(eventId)
      expect(yield* request(`/events/${eventId}`, as(ADA))).toMatchObject({
        body: { run: { text: outcome.run?.text } }
      })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("takes a subsystem that the surroundings give in place of its own", () =>
    Effect.gen(function* () {
      const published: Array<string> = []
      const mine = Layer.effect(
        EventBus,
        Effect.map(EventBusModule.make, (bus) => ({
          ...bus,
          unsafePublish: (event) => {
            published.push(event._tag)
            bus.unsafePublish(event)
          }
        }))
      )
      yield* Effect.gen(function* () {
        expect((yield* say({ text: "hello" })).status).toBe(200)
      }).pipe(Effect.provide(server().pipe(Layer.provide(mine))))
      expect(published).toContain("PolicyDecisionMade")
    })
  )

  it.scoped("layerTest is the gateway in memory, without a door", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      expect(yield* gateway.run({ source: "state-change", payload: "now" })).toMatchObject({ text: "done: now" })
    }).pipe(Effect.provide(Postilion.layerTest()))
  )

  it.scoped("says what is wrong with a configuration, and where", () =>
    Effect.gen(function* () {
      expect(yield* failure({ prot: 80 })).toMatch(/^configuration: prot: /)
      expect(yield* failure({ port: 65_536 })).toBe("configuration: port: must be from 0 to 65535, got 65536")
      expect(yield* failure({ port: 80.5 })).toBe("configuration: port: must be a whole number, got 80.5")
      expect(yield* failure({ storage: "" })).toMatch(/^configuration: storage: /)
      expect(yield* failure({ host: "" })).toMatch(/^configuration: host: /)
      expect(yield* failure({ maxBodyBytes: 0 })).toMatch(/^configuration: maxBodyBytes: must be from 1 to/)
      expect(yield* failure({ bodyTimeoutMs: 2 ** 31 })).toMatch(/^configuration: bodyTimeoutMs: must be from 1 to/)
      expect(yield* failure({ drainDeadlineMs: -1 })).toMatch(/^configuration: drainDeadlineMs: must be from 0 to/)
      const hook = { platform: "callback", url: "https://example.com/hook", secret: "s3cret" }
      const callback = (change: object) => failure({ channels: { hook: { ...hook, ...change } } })
      expect(yield* callback({ url: "ftp://example.com" })).toBe(
        "configuration: channels.hook.url: must be an http or https URL"
      )
      expect(yield* callback({ url: "https://a:b@example.com" })).toMatch(/channels\.hook\.url: must not have a user/)
      expect(yield* callback({ url: "http://169.254.169.254/" })).toMatch(/channels\.hook\.url: 169\.254\.169\.254 is/)
      expect(yield* callback({ url: "http://127.1/" })).toMatch(/channels\.hook\.url: 127\.0\.0\.1 is private/)
      expect(yield* callback({ secret: "" })).toMatch(/channels\.hook\.secret: must not be empty/)
      expect(yield* callback({ timeoutMs: 0 })).toMatch(/channels\.hook\.timeoutMs: must be from 1 to/)
      expect(yield* callback({ platform: undefined })).toMatch(/channels\.hook\.platform: missing; platforms: callback/)
      expect(yield* callback({ retries: 1 })).toMatch(/channels\.hook\.retries: is unexpected/)
      expect(yield* failure({ tokens: { ada: "" } })).toMatch(/^configuration: tokens\.ada: a token has/)
      const scoped = (change: object) => failure({ tokens: { ada: { token: "x", scopes: ["client"], ...change } } })
      expect(yield* scoped({ token: "two words" })).toMatch(/^configuration: tokens\.ada\.token: a token has/)
      expect(yield* scoped({ scopes: [] })).toMatch(/^configuration: tokens\.ada\.scopes/)
      expect(yield* scoped({ scopes: ["root"] })).toMatch(/^configuration: tokens\.ada\.scopes\[0\]: /)
      expect(yield* failure({ allowedOrigins: ["https://a.example.com/"] })).toMatch(/allowedOrigins\[0\]: must be an/)
      expect(yield* failure({ allowedHosts: ["a.example.com:80"] })).toMatch(/allowedHosts\[0\]: must be a name/)
      expect(yield* failure({ trustedProxies: ["proxy"] })).toMatch(/trustedProxies\[0\]: must be an address or a/)
      expect(yield* failure({ maxFailedAttempts: 0 })).toMatch(/maxFailedAttempts: must be from 1 to/)
      expect(yield* failure({ tokens: { ada: "x", bob: "x" } })).toBe(
        "configuration: tokens: two of ada, bob have the same token; give each its own"
      )
      expect(yield* failure({ policies: { maxActionsPerHour: -1 } })).toMatch(
        /^configuration: policies\.maxActionsPerHour: /
      )
      expect(yield* failure({ webhooks: [{ path: "/x", adapter: "github" }] })).toMatch(
        /webhooks\[0\]\.secret: missing/
      )
      expect(yield* failure({ webhooks: [{ path: "/x", adapter: "none", secret: "s" }] })).toMatch(/no adapter "none"/)
    })
  )
})

describe("N33: every key has an effect", () => {
  it("and this is all of them", () => {
    const own = Object.keys(PostilionConfig.fields).filter((key) => !Object.hasOwn(GatewayConfig.fields, key))
    expect(Object.keys(effects).sort()).toEqual(own.sort())
  })
  for (const [key, effect] of Object.entries(effects)) it.live(key, () => effect)
})
