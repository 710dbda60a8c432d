import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Store } from "@postilion/gateway"
import { Effect, TestClock } from "effect"
import { Presence } from "../src/push/Presence.ts"
import { BOB, EVE, lose, OLGA, resume, serving, settled, subscribe } from "./Push.ts"
import { as, eventually, request, tempDir } from "./Support.ts"
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

  it.scoped(
    "who was there when the gateway stopped, or before, is known when it is back, and for how long it is said",
    () =>
      Effect.gen(function* () {
        const storage = join(yield* tempDir, "presence.sqlite")
        const channels = { "*": { guarantee: "at-most-once" as const } }
        const life = serving({ channels, subscriptionDays: 0.02 }, { ...quiet, storage })
        const presence = Effect.map(request("/push/alerts/presence", as(OLGA)), ({ body }) => body)
        yield* Effect.gen(function* () {
          const eve = yield* connected(EVE)
          yield* subscribe(eve, { metadata: { on: "phone" } })
          const bob = yield* connected(BOB, "agent")
          yield* subscribe(bob)
          yield* TestClock.adjust("5 seconds")
          yield* eve.ask("push.unsubscribe", { channel: "alerts" })
          yield* TestClock.adjust("5 seconds")
        }).pipe(Effect.scoped, Effect.provide(life))
        yield* TestClock.adjust("1 minute")
        const left = [
          { principal: "bob", since: at(0), lastSeen: at(10_000), metadata: {} },
          { principal: "eve", since: at(0), lastSeen: at(5_000), metadata: { on: "phone" } }
        ]
        yield* Effect.gen(function* () {
          expect(yield* presence).toEqual({ present: [], left })
          const bob = yield* connected(BOB, "agent")
          yield* subscribe(bob)
          expect(yield* presence).toMatchObject({
            present: [{ principal: "bob", since: at(70_000) }],
            left: [{ principal: "eve" }]
          })
          yield* TestClock.adjust("1 hour")
          yield* eventually(presence, ({ left }) => JSON.stringify(left) === "[]")
        }).pipe(Effect.scoped, Effect.provide(life))
        // What is not said any more is not kept either.
        yield* Effect.gen(function* () {
          expect(yield* presence).toMatchObject({ present: [], left: [{ principal: "bob" }] })
          const rows = yield* Effect.flatMap(Store, (store) => store.find("push_presence", {}))
          expect(rows).toMatchObject([{ principal: "bob", since: 70_000 }])
        }).pipe(Effect.scoped, Effect.provide(life))
      })
  )

  it.effect("remembers the last hundred who have left, and what is not remembered is not kept", () =>
    Effect.sync(() => {
      const presence = new Presence("alerts")
      for (let n = 0; n < 150; n++) {
        presence.restore({ channel: "alerts", principal: `p${n}`, since: 0, seen_at: n, metadata: "{}" })
      }
      expect(presence.query(0).left.map(({ principal }) => principal)).toEqual(
        Array.from({ length: 100 }, (_, i) => `p${149 - i}`)
      )
      const gone = presence.takeChanges(0)
      expect(gone.map(({ principal, row }) => [principal, row])).toEqual(
        Array.from({ length: 50 }, (_, n) => [`p${n}`, undefined])
      )
      expect(presence.takeChanges(0)).toEqual([])
    })
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
