import { describe, expect, it } from "@effect/vitest"
import { HttpListener } from "@postilion/server"
import { Deferred, Effect, Fiber, Scope, Stream } from "effect"
import { rawConnection, request } from "./Support.ts"

const options = { host: "localhost", port: 0, maxBodyBytes: 100, bodyTimeoutMs: 60_000 }
const listener = HttpListener.layer(options)
/** Lets the event loop go round often enough for whatever can go on to do so. */
const turns = Effect.promise(async () => {
  for (let n = 0; n < 2_000; n++) await new Promise<void>((resolve) => setImmediate(resolve))
})
const said = (body: string) => ({ status: 200, headers: { "content-type": "application/json" }, body })

describe("HttpListener", () => {
  it.scoped("interrupts what nobody waits for any more", () =>
    Effect.gen(function* () {
      const { serve } = yield* HttpListener.HttpListener
      const began = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      yield* serve(() =>
        Effect.zipRight(Deferred.succeed(began, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
        )
      )
      const raw = yield* rawConnection
      raw.socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
      yield* Deferred.await(began)
      raw.socket.destroy()
      yield* Deferred.await(interrupted)
    }).pipe(Effect.provide(listener))
  )

  it.scoped("answers 500 where answering dies, and goes on", () =>
    Effect.gen(function* () {
      const { serve } = yield* HttpListener.HttpListener
      yield* serve(({ path }) =>
        path === "/dies"
          ? Effect.die(new Error("at /var/lib/secret"))
          : () => {
              throw new Error("at /var/lib/secret")
            }
      )
      for (const answer of [yield* request("/dies"), yield* request("/throws", { method: "POST", body: "{}" })]) {
        expect(answer).toMatchObject({ status: 500, body: { title: "Internal Server Error" } })
        expect(answer.text).not.toContain("secret")
      }
      expect((yield* request("/livez")).status).toBe(200)
    }).pipe(Effect.provide(listener))
  )

  it.scoped("an offer to speak another protocol than WebSocket is passed over, and what is sent with it is read", () =>
    Effect.gen(function* () {
      const { serve, upgrade } = yield* HttpListener.HttpListener
      yield* upgrade((_, socket) => socket.end("HTTP/1.1 426 Taken\r\ncontent-length: 0\r\n\r\n"))
      yield* serve(({ method }) =>
        method === "POST"
          ? (body: Uint8Array) => Effect.succeed(said(new TextDecoder().decode(body)))
          : Effect.succeed(said("read"))
      )
      // As the HTTP client of Java asks, and curl --http2.
      const offer =
        "host: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
      const posted = yield* rawConnection
      posted.socket.write(`POST / HTTP/1.1\r\n${offer}content-length: 5\r\n\r\nhello`)
      expect(yield* posted.received(/hello/)).toContain("200 OK")
      posted.socket.write(`GET / HTTP/1.1\r\n${offer}\r\n`)
      expect(yield* posted.received(/read/)).not.toContain("426")
      const socket = yield* rawConnection
      socket.socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\n")
      expect(yield* socket.received(/\r\n\r\n/)).toContain("426 Taken")
    }).pipe(Effect.provide(listener))
  )

  it.scoped("sends an answer as it comes, no faster than it is read", () =>
    Effect.gen(function* () {
      const { serve } = yield* HttpListener.HttpListener
      let made = 0
      const megabyte = Stream.sync(() => {
        made += 1
        return "x".repeat(1_048_576)
      })
      const chunks = Stream.concat(Stream.make("begin\n"), Stream.take(Stream.forever(megabyte), 64))
      yield* serve(() =>
        Effect.succeed({ status: 200, headers: {}, chunks: Stream.concat(chunks, Stream.make("\nend")) })
      )
      const raw = yield* rawConnection
      raw.socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
      yield* raw.received(/begin/)
      raw.socket.pause()
      // What neither end has room for is not made: it stands still at less than all.
      const settled = Effect.zipRight(
        turns,
        Effect.sync(() => made)
      )
      let before = -1
      while (before !== made) before = yield* settled
      expect(made).toBeLessThan(60)
      raw.socket.resume()
      expect((yield* raw.ended).match(/end\r\n0\r\n/)).not.toBeNull()
      expect(made).toBe(64)
    }).pipe(Effect.provide(listener))
  )

  it.scoped("stops making what nobody reads any more, and cuts off whoever has stopped reading", () =>
    Effect.gen(function* () {
      const { serve } = yield* HttpListener.HttpListener
      const stopped = { gone: yield* Deferred.make<void>(), stalled: yield* Deferred.make<void>() }
      yield* serve(({ path }) =>
        Effect.succeed({
          status: 200,
          headers: {},
          chunks: Stream.forever(Stream.make("x".repeat(1_048_576))).pipe(
            Stream.ensuring(Deferred.succeed(stopped[path === "/gone" ? "gone" : "stalled"], undefined))
          )
        })
      )
      const gone = yield* rawConnection
      gone.socket.write("GET /gone HTTP/1.1\r\nhost: x\r\n\r\n")
      yield* gone.received(/xxx/)
      gone.socket.destroy()
      yield* Deferred.await(stopped.gone)
      const stalled = yield* rawConnection
      stalled.socket.write("GET /stalled HTTP/1.1\r\nhost: x\r\n\r\n")
      yield* stalled.received(/xxx/)
      stalled.socket.pause()
      yield* Deferred.await(stopped.stalled)
      expect((yield* request("/livez")).status).toBe(200)
    }).pipe(Effect.provide(HttpListener.layer({ ...options, stallMs: 200 })))
  )

  it.scoped("breaks the connection where an answer fails half-way: nobody takes it for all there was", () =>
    Effect.gen(function* () {
      const { serve } = yield* HttpListener.HttpListener
      const read = yield* Deferred.make<never, Error>()
      const failing = Stream.fromEffect(Deferred.await(read))
      yield* serve(({ path }) =>
        Effect.succeed({
          status: 200,
          headers: {},
          chunks: path === "/at-once" ? failing : Stream.concat(Stream.make("one\n"), failing)
        })
      )
      const raw = yield* rawConnection
      raw.socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
      yield* raw.received(/one/)
      yield* Deferred.fail(read, new Error("the disk at /var/lib is gone"))
      const text = yield* raw.ended
      expect(text).not.toContain("\r\n0\r\n")
      const atOnce = yield* request("/at-once")
      expect(atOnce).toMatchObject({ status: 500, body: { title: "Internal Server Error" } })
      expect(atOnce.text).not.toContain("/var/lib")
      const head = yield* rawConnection
      head.socket.write("HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
      expect(yield* head.ended).toMatch(/^HTTP\/1.1 200 OK[\s\S]*\r\n\r\n$/)
    }).pipe(Effect.provide(listener))
  )

  it.scoped("settles when what was under way is answered, whatever has come since", () =>
    Effect.gen(function* () {
      const { serve, settle } = yield* HttpListener.HttpListener
      const held = { first: yield* Deferred.make<string>(), second: yield* Deferred.make<string>() }
      const began = { first: yield* Deferred.make<void>(), second: yield* Deferred.make<void>() }
      yield* serve(({ path }) => {
        const which = path === "/first" ? "first" : "second"
        return Effect.zipRight(Deferred.succeed(began[which], undefined), Effect.map(Deferred.await(held[which]), said))
      })
      const first = yield* Effect.fork(request("/first"))
      yield* Deferred.await(began.first)
      const settled = yield* Effect.fork(settle(60_000))
      yield* Effect.fork(request("/second"))
      yield* Deferred.await(began.second)
      yield* Deferred.succeed(held.first, '{"n":1}')
      yield* Fiber.join(settled)
      expect(yield* first).toMatchObject({ status: 200, body: { n: 1 } })
    }).pipe(Effect.provide(listener))
  )

  it.scoped("cuts off what is not answered in time", () =>
    Effect.gen(function* () {
      const { serve, settle } = yield* HttpListener.HttpListener
      const began = yield* Deferred.make<void>()
      yield* serve(() => Effect.zipRight(Deferred.succeed(began, undefined), Effect.never))
      const raw = yield* rawConnection
      raw.socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
      yield* Deferred.await(began)
      yield* settle(0)
      expect(yield* raw.ended).toBe("")
    }).pipe(Effect.provide(listener))
  )

  it.scoped("after what it served has gone, tells everyone to come back, and keeps no connection", () =>
    Effect.gen(function* () {
      const { serve } = yield* HttpListener.HttpListener
      const scope = yield* Scope.make()
      yield* Scope.extend(
        serve(() => Effect.succeed(said("{}"))),
        scope
      )
      expect((yield* request("/")).status).toBe(200)
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      const answer = yield* request("/")
      expect(answer.status).toBe(503)
      expect(answer.headers.get("connection")).toBe("close")
    }).pipe(Effect.provide(listener))
  )
})
