import { describe, expect, it } from "@effect/vitest"
import { AuditLog, EventBus } from "@postilion/gateway"
import { Effect, Fiber, Stream, TestClock } from "effect"
import { ack, BOB, deadLetters, EVE, heard, hears, OLGA, publish, pushes, serving, settled, subscribe } from "./Push.ts"
import { eventually } from "./Support.ts"
import { connected } from "./Wire.ts"

const once = { channels: { alerts: { guarantee: "at-most-once" } } } as const
const alerts = (settings: object) => ({ channels: { alerts: settings } })

describe("at most once", () => {
  it.scoped("tells who is there, and keeps nothing for who is not", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* publish(bob, "nobody")
      expect((yield* subscribe(eve)).result).toEqual({ cursor: 0, created: false })
      expect((yield* publish(bob, { text: "disk" })).result).toEqual({ cursor: 0, duplicate: false })
      yield* hears(eve, 1)
      expect(pushes(eve)).toMatchObject([
        { channel: "alerts", cursor: 0, from: "bob", data: { text: "disk" }, attempt: 1 }
      ])
      expect((yield* eve.ask("push.history", { channel: "alerts" })).result).toEqual({
        messages: [],
        cursor: 0,
        missed: 0
      })
      expect((yield* subscribe(eve, { subscription: "pager" })).error?.data.code).toBe("invalid-params")
    }).pipe(Effect.provide(serving(once)))
  )

  it.scoped("the same id of the same publisher is told once", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const olga = yield* connected(OLGA, "operator")
      yield* subscribe(olga)
      yield* publish(bob, 1, "alerts", "m")
      expect((yield* publish(bob, 1, "alerts", "m")).result).toMatchObject({ duplicate: true })
      yield* publish(olga, 2, "alerts", "m")
      yield* hears(olga, 2)
      expect(heard(olga)).toEqual([1, 2])
    }).pipe(Effect.provide(serving(once)))
  )
})

describe("at least once", () => {
  it.scoped("a message has its place, is told in order, and the same id is the same message", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve)
      expect((yield* publish(bob, "one", "alerts", "a")).result).toEqual({ cursor: 1, duplicate: false })
      const again = yield* Effect.all(
        [publish(bob, "one", "alerts", "a"), publish(bob, "two", "alerts", "b"), publish(bob, "two", "alerts", "b")],
        { concurrency: "unbounded" }
      )
      expect(again.map(({ result }) => result)).toEqual([
        { cursor: 1, duplicate: true },
        { cursor: 2, duplicate: false },
        { cursor: 2, duplicate: true }
      ])
      yield* publish(bob, "three")
      yield* hears(eve, 3)
      yield* settled(eve)
      expect(pushes(eve)).toMatchObject([
        { cursor: 1, data: "one" },
        { cursor: 2, data: "two" },
        { cursor: 3, data: "three" }
      ])
      const audit = yield* AuditLog
      const records = yield* audit.query({ kind: "push.published" })
      expect(records.map(({ data }) => data)).toMatchObject([
        { channel: "alerts", cursor: 1, id: "a", by: "bob" },
        { cursor: 2, id: "b" },
        { cursor: 3 }
      ])
      expect(JSON.stringify(records)).not.toContain("two")
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("a durable subscription waits for its subscriber, and does not tell what was acknowledged", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      const first = yield* connected(EVE)
      expect((yield* subscribe(first, { subscription: "pager" })).result).toEqual({ cursor: 0, created: true })
      for (const n of [1, 2, 3]) yield* publish(bob, n)
      yield* hears(first, 3)
      expect((yield* ack(first, 1, 3)).result).toEqual({})
      first.socket.close(1_000)
      yield* first.closed
      yield* publish(bob, 4)
      const second = yield* connected(EVE)
      expect((yield* subscribe(second, { subscription: "pager" })).result).toEqual({ cursor: 1, created: false })
      yield* hears(second, 2)
      yield* settled(second)
      expect(pushes(second)).toMatchObject([
        { cursor: 2, attempt: 1 },
        { cursor: 4, attempt: 1 }
      ])
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("what is not acknowledged in time comes again, later each time, and is a dead letter in the end", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const dead = yield* Stream.runHead(yield* bus.subscribe("PushMessageDead")).pipe(Effect.fork)
      const bob = yield* connected(BOB, "agent")
      const eve = yield* connected(EVE)
      yield* subscribe(eve, { subscription: "pager" })
      yield* publish(bob, "disk")
      yield* hears(eve, 1)
      const again = (millis: number, count: number) =>
        Effect.gen(function* () {
          yield* TestClock.adjust(millis - 1)
          yield* settled(eve)
          expect(pushes(eve)).toHaveLength(count - 1)
          yield* eventually(TestClock.adjust(1), () => pushes(eve).length === count)
        })
      yield* TestClock.adjust("10 seconds")
      yield* again(100, 2)
      yield* TestClock.adjust("10 seconds")
      yield* again(200, 3)
      expect(pushes(eve).map(({ attempt, id }) => [attempt, id])).toEqual([
        [1, 'm"disk"'],
        [2, 'm"disk"'],
        [3, 'm"disk"']
      ])
      expect(yield* deadLetters()).toEqual([])
      yield* TestClock.adjust("10 seconds")
      const [letter] = yield* eventually(deadLetters(), (letters) => letters.length === 1)
      expect(letter).toMatchObject({
        channel: "alerts",
        principal: "eve",
        subscription: "pager",
        cursor: 1,
        attempts: 3,
        error: "not acknowledged within 10000 ms",
        message: { from: "bob", data: "disk" }
      })
      expect(yield* Fiber.join(dead)).toMatchObject({
        value: { deadLetterId: letter?.id, channel: "alerts", cursor: 1 }
      })
      yield* TestClock.adjust("1 hour")
      yield* settled(eve)
      expect(pushes(eve)).toHaveLength(3)
    }).pipe(
      Effect.provide(
        serving(alerts({ ackTimeoutMs: 10_000, maxAttempts: 3, retryBaseMs: 100 }), {
          webSocket: { heartbeatIntervalMs: 2 ** 31 - 1 }
        })
      )
    )
  )
})
