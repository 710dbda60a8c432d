import { createHmac } from "node:crypto"
import { createServer } from "node:net"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { type Delivery, GatewayService, type OutboundMessage } from "@postilion/gateway"
import { CallbackChannel, type PostilionConfigInput } from "@postilion/server"
import { Effect, Exit, Redacted, TestClock } from "effect"
import { start, urlOf } from "./ChildServer.ts"
import { answer, inTurn, type Received, receiver, reset, silence } from "./Receiver.ts"
import {
  ADA,
  as,
  deliver,
  delivery,
  eventually,
  MALLORY,
  request,
  requestAt,
  SECRET,
  say,
  server,
  tempDir
} from "./Support.ts"

const KEY = Buffer.from("a secret of 24 bytes or so").toString("base64")
const message: OutboundMessage = {
  key: "dlv_1",
  seq: 1,
  target: "ops",
  text: "done",
  outcome: "completed",
  agentId: "agent",
  eventId: "evt_1",
  runId: "run_1",
  preparedAt: new Date(0)
}
const channelTo = (url: string, timeoutMs = 5_000) =>
  CallbackChannel.make("hook", {
    url,
    secret: Redacted.make(`whsec_${KEY}`),
    allowPrivate: true,
    deduplicates: false,
    timeoutMs
  })
/** What comes of sending one message to a server that does this. */
const outcomeOf = (act: Parameters<typeof receiver>[0], timeoutMs?: number) =>
  Effect.gen(function* () {
    const { received, url } = yield* receiver(act)
    const exit = yield* Effect.either(channelTo(url, timeoutMs).send(message))
    expect(received).toHaveLength(1)
    return exit
  })
const unreachable = Effect.async<string>((resume) => {
  const probe = createServer()
  probe.listen(0, "127.0.0.1", () => {
    const address = probe.address()
    probe.close(() => resume(Effect.succeed(`http://127.0.0.1:${typeof address === "object" ? address?.port : 0}/`)))
  })
})

describe.sequential("a callback", () => {
  it.scopedLive(
    "is signed so that its receiver can tell it is ours, and keyed so that it can tell it from others",
    () =>
      Effect.gen(function* () {
        const { received, url } = yield* receiver(answer(200))
        expect(yield* channelTo(url).send(message)).toEqual({ reference: "HTTP 200" })
        const { body, headers }: Received = received[0] ?? { path: "", body: "", headers: {} }
        expect(JSON.parse(body)).toEqual({
          type: "run.completed",
          timestamp: "1970-01-01T00:00:00.000Z",
          data: {
            id: "dlv_1",
            channel: "hook",
            target: "ops",
            text: "done",
            agentId: "agent",
            eventId: "evt_1",
            runId: "run_1"
          }
        })
        expect(headers).toMatchObject({
          "idempotency-key": "dlv_1",
          "webhook-id": "dlv_1",
          "content-type": "application/json"
        })
        const timestamp = String(headers["webhook-timestamp"])
        expect(Math.abs(Date.now() / 1_000 - Number(timestamp))).toBeLessThan(60)
        const expected = createHmac("sha256", Buffer.from(KEY, "base64"))
          .update(`dlv_1.${timestamp}.${body}`)
          .digest("base64")
        expect(headers["webhook-signature"]).toBe(`v1,${expected}`)
      })
  )

  const statuses = [
    [500, "not-sent"],
    [503, "not-sent"],
    [429, "not-sent"],
    [408, "not-sent"],
    [502, "unknown"],
    [504, "unknown"],
    [400, "rejected"],
    [404, "rejected"],
    [301, "rejected"],
    [307, "rejected"]
  ] as const
  for (const [status, outcome] of statuses) {
    it.scopedLive(`answered ${status}: ${outcome}`, () =>
      Effect.gen(function* () {
        const elsewhere = yield* receiver()
        const headers = { location: elsewhere.url, "retry-after": "7" }
        const exit = yield* outcomeOf(answer(status, headers, "no\nthanks"))
        expect(exit).toMatchObject({
          left: { outcome, retryAfterMillis: 7_000, message: expect.stringContaining(`"hook" answered ${status}`) }
        })
        expect(elsewhere.received).toEqual([])
      })
    )
  }

  it.scopedLive("no connection: not sent; broken or silent once it stands: unknown", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.either(channelTo(yield* unreachable).send(message))
      expect(refused).toMatchObject({ left: { outcome: "not-sent", message: 'callback "hook": ECONNREFUSED' } })
      const nowhere = yield* Effect.either(channelTo("http://nowhere.invalid/").send(message))
      expect(nowhere).toMatchObject({
        left: { outcome: "not-sent", message: expect.stringContaining("could not be resolved") }
      })
      expect(yield* outcomeOf(reset)).toMatchObject({ left: { outcome: "unknown" } })
      expect(yield* outcomeOf(silence, 100)).toMatchObject({
        left: { outcome: "unknown", message: 'callback "hook": there was no answer within 100 ms' }
      })
    })
  )

  it.scopedLive("an answer that has no end is not read to it, and its status counts", () =>
    Effect.gen(function* () {
      const endless = (status: number) =>
        outcomeOf((response) => {
          response.writeHead(status)
          const more = () => {
            while (!response.destroyed && response.write("x".repeat(65_536)));
          }
          response.on("drain", more)
          more()
        })
      expect(yield* endless(200)).toMatchObject({ right: { reference: "HTTP 200" } })
      expect(yield* endless(400)).toMatchObject({ left: { outcome: "rejected" } })
      const dripping = outcomeOf((response) => {
        response.writeHead(200)
        response.write("x")
      }, 200)
      expect(yield* dripping).toMatchObject({ right: { reference: "HTTP 200" } })
      const headers = outcomeOf((response) =>
        response.socket?.end(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(100_000)}\r\n\r\n`)
      )
      expect(yield* headers).toMatchObject({ left: { outcome: "unknown" } })
    })
  )

  it.scopedLive("X13: a name is not sent to when it leads inside, also when an address is its name", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver()
      const inside = new URL(url)
      for (const host of ["localhost", "127.0.0.1", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]) {
        const channel = CallbackChannel.make("hook", {
          url: `http://${host}:${inside.port}/`,
          secret: Redacted.make("s"),
          allowPrivate: false,
          deduplicates: false,
          timeoutMs: 5_000
        })
        expect(yield* Effect.either(channel.send(message))).toMatchObject({ left: { outcome: "rejected" } })
      }
      expect(received).toEqual([])
      inside.hostname = "localhost"
      expect(Exit.isSuccess(yield* Effect.exit(channelTo(inside.href).send(message)))).toBe(true)
    })
  )
})

const callback = (url: string, change: object = {}) => ({
  platform: "callback" as const,
  url,
  secret: "s3cret",
  allowPrivate: true,
  ...change
})
const toHook = { path: "/github", adapter: "github", secret: SECRET, deliverTo: { channel: "hook", target: "ops" } }
const sentBy = (url: string) =>
  Effect.map(
    requestAt(url, "/deliveries", as(ADA)),
    ({ body }) => body.deliveries as ReadonlyArray<Record<string, unknown>>
  )

describe("a server with channels", () => {
  it.scoped("sends what a webhook's run has to say, tries again what was not taken, in order", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver(inTurn(answer(500), answer(429, { "retry-after": "60" }), answer(200)))
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* deliver("deployment", "d1")
        yield* eventually(gateway.deliveries(), ([first]) => first?.attempt === 1 && first.state === "prepared")
        yield* deliver("deployment", "d2")
        yield* TestClock.adjust("5 seconds")
        const again = ([first]: ReadonlyArray<Delivery>) => first?.attempt === 2 && first.state === "prepared"
        const [first] = yield* eventually(gateway.deliveries(), again)
        const dueAt = first?.dueAt?.getTime() ?? 0
        expect(dueAt).toBeGreaterThanOrEqual(62_500)
        yield* TestClock.setTime(dueAt - 1)
        expect(received).toHaveLength(2)
        yield* TestClock.adjust(1)
        yield* eventually(gateway.status(), ({ deliveries }) => deliveries.sent === 2)
        const keys = received.map(({ headers }) => headers["idempotency-key"])
        const [one, two] = (yield* gateway.deliveries()).map(({ id }) => id)
        expect(keys).toEqual([one, one, one, two])
        expect(new Set(received.slice(0, 3).map(({ body }) => body)).size).toBe(1)
      }).pipe(Effect.provide(server({ webhooks: [toHook], channels: { hook: callback(url) } })))
    })
  )

  it.scoped("sends a chat message's answer where the message says, to the conversation its token proves", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver()
      yield* Effect.gen(function* () {
        expect(yield* say({ text: "hello", replyTo: "hook" })).toMatchObject({
          status: 200,
          body: { reply: "done: hello" }
        })
        yield* eventually(
          Effect.sync(() => received.length),
          (count) => count === 1
        )
        expect(JSON.parse(received[0]?.body ?? "")).toMatchObject({
          data: { target: 'http:["ada","default"]', text: "done: hello" }
        })
        expect(yield* say({ text: "hello", replyTo: "other" })).toMatchObject({
          status: 422,
          body: { detail: 'replyTo: there is no channel "other"; channels: hook' }
        })
        expect((yield* say({ text: "hello", replyTo: "hook" }, MALLORY)).status).toBe(403)
        expect(received).toHaveLength(1)
      }).pipe(Effect.provide(server({ channels: { hook: callback(url) } })))
    })
  )

  it.scoped("lists dead letters over HTTP, and a principal replays or drops them", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver(inTurn(answer(400), answer(400), answer(200)))
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* deliver("deployment", "d1")
        yield* deliver("deployment", "d2")
        yield* eventually(gateway.status(), ({ deliveries }) => deliveries.failed === 2)
        const failed = yield* request("/deliveries?state=failed", as(ADA))
        const [one, two] = failed.body.deliveries as ReadonlyArray<Record<string, unknown>>
        expect([one, two]).toMatchObject([{ state: "failed", attempt: 1 }, { state: "failed" }])
        expect((yield* request("/deliveries?state=sent", as(ADA))).body).toEqual({ deliveries: [] })
        expect((yield* request(`/deliveries?after=${one?.seq}&limit=1`, as(ADA))).body.deliveries).toEqual([two])
        for (const query of ["state=lost", "limit=0", "limit=1001", "after=x", "sate=failed"]) {
          expect((yield* request(`/deliveries?${query}`, as(ADA))).status).toBe(422)
        }
        const post = (path: string) => request(`/deliveries/${path}`, { ...as(ADA), method: "POST" })
        expect(yield* post(`${one?.id}/replay`)).toMatchObject({ status: 200, body: { state: "prepared" } })
        yield* eventually(gateway.status(), ({ deliveries }) => deliveries.sent === 1)
        expect(received[2]?.headers["idempotency-key"]).toBe(one?.id)
        expect(yield* post(`${two?.id}/drop`)).toMatchObject({ status: 200, body: { state: "dropped" } })
        expect((yield* post(`${one?.id}/replay`)).status).toBe(409)
        expect((yield* post("dlv_0/drop")).status).toBe(404)
        expect((yield* request("/status", as(ADA))).body).toMatchObject({ deliveries: { sent: 1, failed: 0 } })
      }).pipe(Effect.provide(server({ webhooks: [toHook], channels: { hook: callback(url) } })))
    })
  )
})

describe("N14: kill -9 between sending and receipt", { timeout: 240_000 }, () => {
  const crash = (config: (url: string) => PostilionConfigInput) =>
    Effect.gen(function* () {
      const hook = yield* receiver(inTurn(silence, answer(200)))
      const storage = join(yield* tempDir, "ops.sqlite")
      const given = { storage, tokens: { ada: ADA }, webhooks: [toHook], ...config(hook.url) }
      const first = yield* start(given)
      yield* requestAt(yield* urlOf(first), "/webhooks/github", delivery("deployment", "d1"))
      yield* first.told("running")
      yield* first.finishRun
      yield* eventually(
        Effect.sync(() => hook.received.length),
        (count) => count === 1
      )
      first.process.kill("SIGKILL")
      yield* first.exit
      const url = yield* urlOf(yield* start(given))
      return { hook, url }
    })

  it.scopedLive("unknown, shown, and not sent again until a person says so", () =>
    Effect.gen(function* () {
      const { hook, url } = yield* crash((url) => ({ channels: { hook: callback(url) } }))
      const [unknown] = yield* sentBy(url)
      expect(unknown).toMatchObject({
        state: "unknown",
        attempt: 1,
        error: "the process ended while it was being sent"
      })
      const { body } = yield* requestAt(url, "/status", as(ADA))
      expect(body).toMatchObject({ deliveries: { unknown: 1, prepared: 0, sending: 0 } })
      expect(hook.received).toHaveLength(1)
      yield* requestAt(url, `/deliveries/${unknown?.id}/replay`, { ...as(ADA), method: "POST" })
      yield* eventually(sentBy(url), ([one]) => one?.state === "sent")
      expect(hook.received.map(({ headers }) => headers["idempotency-key"])).toEqual([unknown?.id, unknown?.id])
    })
  )

  it.scopedLive("sent again under the same key where the receiver deduplicates", () =>
    Effect.gen(function* () {
      const { hook, url } = yield* crash((url) => ({ channels: { hook: callback(url, { deduplicates: true }) } }))
      const [sent] = yield* eventually(sentBy(url), ([one]) => one?.state === "sent")
      expect(hook.received.map(({ headers }) => headers["idempotency-key"])).toEqual([sent?.id, sent?.id])
    })
  )
})
