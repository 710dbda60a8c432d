import { describe, expect, it } from "@effect/vitest"
import { HttpListener } from "@postilion/server"
import { Deferred, Effect, Fiber, Scope } from "effect"
import { rawConnection, request } from "./Support.ts"

const listener = HttpListener.layer({ host: "localhost", port: 0, maxBodyBytes: 100, bodyTimeoutMs: 60_000 })
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
