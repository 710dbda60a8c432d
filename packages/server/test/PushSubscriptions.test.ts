import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import {
  ack,
  BOB,
  deadLetters,
  EVE,
  hears,
  lose,
  OLGA,
  publish,
  pushes,
  resume,
  serving,
  settled,
  subscribe
} from "./Push.ts"
import { as, eventually, request, tempDir } from "./Support.ts"
import { connected, hello, isMethod, open, type Wire } from "./Wire.ts"

const quiet = { webSocket: { heartbeatIntervalMs: 2 ** 31 - 1 } }
const alerts = (settings: object, rest: object = quiet) => serving({ channels: { alerts: settings } }, rest)
const pager = { subscription: "pager" }
const nack = (wire: Wire, cursor: number, params: object = {}) =>
  wire.ask("push.nack", { channel: "alerts", ...pager, cursors: [cursor], ...params })
const gaps = (wire: Wire) => wire.told("PUSH_GAP").map(({ params }) => params)
const post = (path: string) => request(path, { ...as(OLGA), method: "POST" })

describe("a durable subscription", () => {
  it.scoped("what is refused comes again after a while, or is a dead letter at once", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      yield* publish(bob, "one")
      yield* hears(eve, 1)
      yield* nack(eve, 1)
      yield* TestClock.adjust(499)
      yield* settled(eve)
      expect(pushes(eve)).toHaveLength(1)
      yield* eventually(TestClock.adjust(1), () => pushes(eve).length === 2)
      expect(pushes(eve)[1]).toMatchObject({ cursor: 1, attempt: 2 })
      yield* nack(eve, 1, { requeue: false, reason: "no such disk" })
      expect(yield* deadLetters()).toMatchObject([{ attempts: 2, error: "no such disk" }])
      // Nothing waits behind it.
      yield* publish(bob, "two")
      yield* hears(eve, 3)
      expect(pushes(eve)[2]).toMatchObject({ cursor: 2, attempt: 1 })
    }).pipe(Effect.provide(alerts({ retryBaseMs: 500 })))
  )

  it.scoped("a dead letter is told again when a person says so, or dropped; and both are in the audit", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      for (const n of [1, 2]) yield* publish(bob, n)
      yield* hears(eve, 2)
      for (const cursor of [1, 2]) yield* nack(eve, cursor, { requeue: false })
      const [first, second] = yield* deadLetters("channel=alerts")
      expect(yield* deadLetters(`after=${first?.id}`)).toMatchObject([{ id: second?.id }])
      expect((yield* post(`/dead-letters/${first?.id}/replay`)).status).toBe(200)
      expect((yield* post(`/dead-letters/${first?.id}/replay`)).status).toBe(409)
      yield* hears(eve, 3)
      expect(pushes(eve)[2]).toMatchObject({ cursor: 1, data: 1, attempt: 1 })
      yield* nack(eve, 1, { requeue: false, reason: "still not" })
      expect(yield* deadLetters()).toMatchObject([{ id: first?.id, error: "still not" }, { id: second?.id }])
      yield* post(`/dead-letters/${first?.id}/replay`)
      yield* hears(eve, 4)
      yield* ack(eve, 1)
      expect((yield* post(`/dead-letters/${second?.id}/drop`)).status).toBe(200)
      expect(yield* deadLetters()).toEqual([])
      expect((yield* post(`/dead-letters/${second?.id}/drop`)).status).toBe(404)
      expect((yield* post(`/dead-letters/${first?.id}/replay`)).status).toBe(404)
    }).pipe(Effect.provide(alerts({})))
  )

  it.scoped("a connection that has lost its socket is not late; resumed, it goes on, and is told nothing twice", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* open()
      const welcome = yield* eve.ask("connect", hello(EVE))
      yield* subscribe(eve, pager)
      yield* publish(bob, 1)
      yield* hears(eve, 1)
      yield* lose(eve)
      for (const n of [2, 3]) yield* publish(bob, n)
      yield* TestClock.adjust("30 seconds")
      const again = yield* resume(EVE, "client", welcome, 1)
      yield* hears(again, 2)
      yield* settled(again)
      expect(pushes(again)).toMatchObject([
        { cursor: 2, attempt: 1 },
        { cursor: 3, attempt: 1 }
      ])
      yield* ack(again, 1, 2, 3)
      yield* TestClock.adjust("1 minute")
      yield* settled(again)
      expect(pushes(again)).toHaveLength(2)
      expect(yield* deadLetters()).toEqual([])
    }).pipe(Effect.provide(alerts({ ackTimeoutMs: 10_000, maxAttempts: 1 })))
  )

  it.scoped("asked for again, tells again what was not acknowledged", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      for (const n of [1, 2]) yield* publish(bob, n)
      yield* hears(eve, 2)
      yield* ack(eve, 1)
      expect((yield* subscribe(eve, pager)).result).toEqual({ cursor: 1, created: false })
      yield* hears(eve, 3)
      yield* settled(eve)
      expect(pushes(eve).map(({ attempt, cursor }) => [cursor, attempt])).toEqual([
        [1, 1],
        [2, 1],
        [2, 1]
      ])
      expect(eve.told("ERROR")).toEqual([])
    }).pipe(Effect.provide(alerts({})))
  )

  it.scoped("no more than maxInFlight wait to be acknowledged, also of those that come out of order", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      for (let n = 1; n <= 5; n++) yield* publish(bob, n)
      yield* hears(eve, 2)
      yield* settled(eve)
      expect(pushes(eve).map(({ cursor }) => cursor)).toEqual([1, 2])
      yield* ack(eve, 2)
      yield* hears(eve, 3)
      yield* ack(eve, 1, 3)
      yield* hears(eve, 5)
      expect(pushes(eve).map(({ cursor }) => cursor)).toEqual([1, 2, 3, 4, 5])
    }).pipe(Effect.provide(alerts({ maxInFlight: 2 })))
  )

  it.scoped("the backlog is capped: what fell out is told as a PUSH_GAP, also to who asks since a cursor", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      yield* eve.ask("push.unsubscribe", { channel: "alerts" })
      for (let n = 1; n <= 10; n++) yield* publish(bob, n)
      yield* subscribe(eve, pager)
      yield* hears(eve, 3)
      yield* settled(eve)
      expect(gaps(eve)).toMatchObject([{ channel: "alerts", missed: 7, cursor: 7 }])
      expect(pushes(eve).map(({ cursor }) => cursor)).toEqual([8, 9, 10])
      const olga = yield* connected(OLGA, "operator")
      yield* subscribe(olga, { since: 5 })
      yield* hears(olga, 3)
      expect(gaps(olga)).toMatchObject([{ missed: 2, cursor: 7 }])
      const { result } = yield* olga.ask("push.history", { channel: "alerts", since: 2 })
      expect(result).toMatchObject({ missed: 5, cursor: 10, messages: [{ data: 8 }, { data: 9 }, { data: 10 }] })
      // Said until something after it was acknowledged.
      yield* ack(eve, 8)
      yield* eve.ask("push.unsubscribe", { channel: "alerts" })
      yield* subscribe(eve, pager)
      yield* hears(eve, 5)
      expect(gaps(eve)).toHaveLength(1)
    }).pipe(Effect.provide(alerts({ backlog: { maxMessages: 3 } })))
  )

  it.scoped("the backlog has a time: a message that waited longer is missing, and its dead letter is not", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      yield* publish(bob, "dead")
      yield* hears(eve, 1)
      yield* nack(eve, 1, { requeue: false })
      yield* eve.ask("push.unsubscribe", { channel: "alerts" })
      yield* publish(bob, "old")
      yield* TestClock.adjust("50 seconds")
      yield* publish(bob, "young")
      yield* TestClock.adjust("11 seconds")
      const history = bob.ask("push.history", { channel: "alerts", since: 0 })
      yield* eventually(history, ({ result }) => result?.missed === 2)
      yield* subscribe(eve, pager)
      yield* hears(eve, 2)
      // The dead letter is not missing: it is known what became of it.
      expect(gaps(eve)).toMatchObject([{ missed: 1, cursor: 2 }])
      expect(pushes(eve)[1]).toMatchObject({ data: "young" })
      const [letter] = yield* deadLetters()
      yield* post(`/dead-letters/${letter?.id}/replay`)
      yield* hears(eve, 3)
      expect(pushes(eve)[2]).toMatchObject({ data: "dead", cursor: 1 })
    }).pipe(Effect.provide(alerts({ backlog: { ttlMs: 60_000 } })))
  )

  it.scoped("a cursor of another channel, or another gateway, is said to be one", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      yield* publish(bob, 1)
      yield* subscribe(bob, { since: 50 })
      expect((yield* bob.until(isMethod("PUSH_GAP"))).params).toMatchObject({ missed: null, cursor: 1 })
      yield* publish(bob, 2)
      yield* hears(bob, 1)
      expect((yield* bob.ask("push.history", { channel: "alerts", since: 50 })).result).toEqual({
        messages: [],
        missed: null,
        cursor: 2
      })
    }).pipe(Effect.provide(alerts({})))
  )

  it.scoped("waits through a restart: its place, what was refused how often, and its dead letters", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "push.sqlite")
      const started = alerts({ retryBaseMs: 60_000, maxAttempts: 2 }, { ...quiet, storage })
      yield* Effect.gen(function* () {
        const bob = yield* connected(BOB, "agent")
        const eve = yield* connected(EVE)
        yield* subscribe(eve, pager)
        for (let n = 1; n <= 5; n++) yield* publish(bob, n)
        yield* hears(eve, 5)
        yield* ack(eve, 1, 4)
        yield* nack(eve, 2)
        yield* nack(eve, 3, { requeue: false })
      }).pipe(Effect.scoped, Effect.provide(started))
      yield* Effect.gen(function* () {
        const eve = yield* connected(EVE)
        expect((yield* subscribe(eve, pager)).result).toEqual({ cursor: 1, created: false })
        yield* hears(eve, 1)
        yield* settled(eve)
        expect(pushes(eve)).toMatchObject([{ cursor: 5, attempt: 1 }])
        yield* ack(eve, 5)
        yield* eventually(TestClock.adjust("20 seconds"), () => pushes(eve).length === 2)
        expect(pushes(eve)[1]).toMatchObject({ cursor: 2, attempt: 2 })
        yield* nack(eve, 2)
        expect((yield* deadLetters()).map(({ cursor }) => cursor)).toEqual([3, 2])
        const bob = yield* connected(BOB, "agent")
        expect((yield* publish(bob, 6)).result).toEqual({ cursor: 6, duplicate: false })
        expect((yield* publish(bob, 1)).result).toEqual({ cursor: 1, duplicate: true })
      }).pipe(Effect.scoped, Effect.provide(started))
    })
  )

  it.scoped("is forgotten when it is told to, or when nobody has heard by it for long; its channel with it", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, pager)
      for (const n of [1, 2]) yield* publish(bob, n)
      yield* hears(eve, 2)
      yield* eve.ask("push.unsubscribe", { channel: "alerts", forget: "pager" })
      expect((yield* ack(eve, 1)).error?.data.code).toBe("not-found")
      expect((yield* subscribe(eve, pager)).result).toEqual({ cursor: 2, created: true })
      eve.socket.close(1_000)
      yield* eve.closed
      const metrics = Effect.map(request("/metrics", as(OLGA)), ({ text }) => text)
      expect(yield* metrics).toContain("postilion_push_subscriptions 1\n")
      yield* TestClock.adjust("1 hour")
      yield* eventually(metrics, (text) => text.includes("postilion_push_subscriptions 0\n"))
      yield* eventually(metrics, (text) => text.includes("postilion_push_channels 0\n"))
      // A number of the channel that was forgotten is no other message's.
      const carol = yield* connected(BOB, "agent")
      expect((yield* publish(carol, 1)).result).toEqual({ cursor: 3, duplicate: false })
    }).pipe(
      Effect.provide(serving({ subscriptionDays: 0.02, channels: { "*": { backlog: { ttlMs: 60_000 } } } }, quiet))
    )
  )
})
