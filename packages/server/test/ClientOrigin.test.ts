import { describe, expect, it } from "@effect/vitest"
import { Client } from "@postilion/client"
import { Effect } from "effect"
import { WebSocket as UndiciWebSocket } from "undici"
import { WebSocket } from "ws"
import { luring, redirecting, stranger } from "./Stranger.ts"
import { ADA, eventually } from "./Support.ts"

const libraries = { ws: WebSocket, undici: UndiciWebSocket } as unknown as Record<
  string,
  NonNullable<Client.ClientOptions["webSocket"]>
>

describe("X1: the client says its token to the address it was given, and to no other", () => {
  for (const [name, webSocket] of Object.entries(libraries)) {
    const quick = { token: ADA, webSocket, minReconnectDelayMs: 1 }

    it.scopedLive(`${name}: not where it is redirected to`, () =>
      Effect.gen(function* () {
        const thief = yield* stranger((socket) => socket.destroy())
        const gate = yield* redirecting(thief.url)
        const client = yield* Effect.fork(Effect.flip(Client.make(gate.url, quick)))
        // It tries again, at the same address.
        yield* eventually(Effect.sync(gate.asked), (asked) => asked >= 3)
        expect(client.unsafePoll()).toBeNull()
        expect(thief.asked()).toBe(0)
      })
    )

    it.scopedLive(`${name}: not where a gateway says that it should come back to`, () =>
      Effect.gen(function* () {
        const thief = yield* stranger((socket) => socket.destroy())
        const gate = yield* luring(thief.url)
        yield* Client.make(gate.url, quick)
        yield* eventually(
          Effect.sync(() => gate.said),
          ({ length }) => length >= 3
        )
        for (const said of gate.said.slice(0, 3)) expect(JSON.parse(said).params.token).toBe(ADA)
        expect(thief.asked()).toBe(0)
      })
    )
  }
})
