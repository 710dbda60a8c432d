import { channel } from "node:diagnostics_channel"
import { Server } from "node:http"
import { describe, expect, it } from "@effect/vitest"
import { HttpAddress } from "@postilion/server"
import { Effect, TestClock } from "effect"
import { ADA, as, eventually, request, server } from "./Support.ts"

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
