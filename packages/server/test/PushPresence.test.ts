import { describe, expect, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { BOB, EVE, lose, OLGA, resume, serving, settled, subscribe } from "./Push.ts"
import { as, eventually, request } from "./Support.ts"
import { connected, hello, open, type Wire } from "./Wire.ts"

const query = (wire: Wire) => Effect.map(wire.ask("presence.query", { channel: "alerts" }), ({ result }) => result)
const told = (wire: Wire) =>
  wire.told("PRESENCE").map(({ params }) => [params?.change, params?.principal, params?.metadata])
const at = (millis: number) => new Date(millis).toISOString()
const quiet = { webSocket: { heartbeatIntervalMs: 2 ** 31 - 1 } }

describe("presence", () => {
  it.scoped("who hears a channel is there, once, with what it says of itself; who asks to is told", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      yield* subscribe(bob, { presence: true })
      const eve = yield* connected(EVE)
      yield* subscribe(eve, { metadata: { on: "phone" } })
      const other = yield* connected(EVE)
      yield* subscribe(other, { metadata: { on: "desk" } })
      yield* subscribe(other, {})
      expect(yield* query(eve)).toMatchObject({
        present: [
          { principal: "bob", metadata: {}, online: true, since: at(0), lastSeen: at(0) },
          { principal: "eve", metadata: { on: "desk" }, online: true }
        ],
        left: []
      })
      yield* eve.ask("push.unsubscribe", { channel: "alerts" })
      yield* settled(bob)
      expect(told(bob)).toEqual([
        ["joined", "eve", { on: "phone" }],
        ["updated", "eve", { on: "desk" }]
      ])
      yield* TestClock.adjust("5 seconds")
      other.socket.close(1_000)
      yield* other.closed
      yield* eventually(settled(bob), () => told(bob).length === 3)
      expect(told(bob)[2]).toEqual(["left", "eve", { on: "desk" }])
      expect(eve.told("PRESENCE")).toEqual([])
      const { body } = yield* request("/push/alerts/presence", as(OLGA))
      expect(body).toMatchObject({
        present: [{ principal: "bob" }],
        left: [{ principal: "eve", since: at(0), lastSeen: at(5_000) }]
      })
    }).pipe(Effect.provide(serving({}, quiet)))
  )

  it.scoped("who lost its socket is there until it cannot be resumed: then it has left, and was last seen before", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* open()
      const welcome = yield* eve.ask("connect", hello(EVE))
      yield* subscribe(eve)
      yield* subscribe(bob, { presence: true })
      yield* TestClock.adjust("10 seconds")
      yield* lose(eve)
      const offline = eventually(query(bob), (now) => JSON.stringify(now?.present).includes('"online":false'))
      yield* offline
      yield* TestClock.adjust("50 seconds")
      expect((yield* query(bob))?.present).toMatchObject([
        { principal: "eve", online: false, lastSeen: at(10_000) },
        {}
      ])
      const again = yield* resume(EVE, "client", welcome, 0)
      expect((yield* query(bob))?.present).toMatchObject([{ principal: "eve", online: true, lastSeen: at(60_000) }, {}])
      expect(told(bob)).toEqual([])
      yield* lose(again)
      yield* offline
      yield* TestClock.adjust("1 minute")
      yield* eventually(settled(bob), () => told(bob).length === 1)
      expect(bob.told("PRESENCE")[0]?.params).toMatchObject({ change: "left", principal: "eve", lastSeen: at(60_000) })
      expect(yield* query(bob)).toMatchObject({ present: [{ principal: "bob" }], left: [{ principal: "eve" }] })
    }).pipe(Effect.provide(serving({}, quiet)))
  )
})
