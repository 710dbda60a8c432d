import { channel } from "node:diagnostics_channel"
import { Server } from "node:http"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { HttpAddress } from "@postilion/server"
import { Effect, TestClock } from "effect"
import { start, urlOf } from "./ChildServer.ts"
import { ADA, as, delivery, eventually, request, requestAt, runsIn, server, tempDir } from "./Support.ts"

describe("N5: a process that crashes on start, again and again", { timeout: 60_000 }, () => {
  it.scopedLive("the fourth comes up with its sources held, says so, keeps what comes, and goes on when released", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const config = { storage, tokens: { ada: ADA }, limits: { maxAttempts: 9 } }
      const first = yield* start(config, { mode: "crash" })
      // The process goes down before, or after, it has answered.
      yield* Effect.exit(requestAt(yield* urlOf(first), "/webhooks/github", delivery("deployment", "d1")))
      expect(yield* first.exit).toMatchObject({ signal: "SIGKILL" })
      for (let i = 0; i < 2; i++) {
        expect(yield* (yield* start(config, { mode: "crash" })).exit).toMatchObject({ signal: "SIGKILL" })
      }
      expect(yield* runsIn(storage)).toMatchObject([{ state: "running", attempt: 3 }])

      const fourth = yield* start(config, { mode: "crash" })
      const url = yield* urlOf(fourth)
      expect(yield* eventually(requestAt(url, "/readyz"), ({ status }) => status === 200)).toMatchObject({
        body: { status: "held" }
      })
      const status = Effect.map(requestAt(url, "/status", as(ADA)), ({ body }) => body)
      expect(yield* status).toMatchObject({
        held: { reason: expect.stringContaining("3 starts within 5 minutes ended in a crash") },
        scheduler: { running: false },
        pending: { waiting: 1, running: 0 }
      })
      expect((yield* requestAt(url, "/webhooks/github", delivery("deployment", "d2"))).status).toBe(202)
      expect(yield* status).toMatchObject({ pending: { waiting: 2, running: 0 } })
      fourth.process.kill("SIGTERM")
      const ended = yield* fourth.exit
      expect(ended).toMatchObject({ code: 0 })
      expect(ended.output).toContain("find out why, then release the gateway")

      // What made it crash is mended; it still waits to be told.
      const fifth = yield* start(config)
      const again = yield* urlOf(fifth)
      yield* eventually(requestAt(again, "/readyz"), ({ body }) => body.status === "held")
      const release = requestAt(again, "/release", { ...as(ADA), method: "POST" })
      expect(yield* release).toMatchObject({ status: 200, body: { released: true, by: "ada" } })
      expect(yield* fifth.told("running")).toMatchObject({ attempt: 4 })
      expect((yield* release).body).toMatchObject({ released: false })
      expect((yield* requestAt(again, "/readyz")).body).toEqual({ status: "ready" })
    })
  )
})

describe("the listener", () => {
  /** The server behind the door, as the runtime tells of each connection. */
  const serverOf = Effect.gen(function* () {
    let found: Server | undefined
    const listener = (message: unknown) => {
      if (typeof message !== "object" || message === null || !("socket" in message)) return
      const { socket } = message
      if (typeof socket !== "object" || socket === null || !("server" in socket)) return
      if (socket.server instanceof Server) found = socket.server
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => channel("net.server.socket").subscribe(listener)),
      () => Effect.sync(() => channel("net.server.socket").unsubscribe(listener))
    )
    yield* request("/livez")
    return yield* Effect.fromNullable(found)
  })
  const component = Effect.map(request("/status", as(ADA)), ({ body }) =>
    Array.isArray(body.components) ? body.components.find(({ name }) => name === "http listener") : undefined
  )

  it.scoped("listens again, at the same address, when it has stopped to, and shows it", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const behind = yield* serverOf
      expect(yield* component).toMatchObject({ state: "running", restarts: 0 })
      behind.emit("error", new Error("too many open files"))
      yield* TestClock.adjust("1 second")
      expect(yield* component).toMatchObject({
        restarts: 1,
        lastError: `${url}: a connection could not be taken: too many open files`
      })
      yield* Effect.async<void>((resume) => {
        behind.close(() => resume(Effect.void))
        behind.closeAllConnections()
      })
      yield* TestClock.adjust("1 second")
      yield* eventually(
        Effect.sync(() => behind.listening),
        (listening) => listening
      )
      expect(yield* component).toMatchObject({ state: "running", restarts: 2 })
    }).pipe(Effect.provide(server()))
  )
})
