import { describe, expect, it } from "@effect/vitest"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Context, Effect, Exit, Fiber, Layer, Scope, TestClock } from "effect"
import { BOB, EVE, OLGA, poll, post, pushes, serving, settled, subscribe } from "./Push.ts"
import { as, eventually, request, requestAt } from "./Support.ts"
import { connected } from "./Wire.ts"

const publish = (data: unknown, id?: string) => post(BOB, "alerts", { data, ...(id === undefined ? {} : { id }) })
const waiting = Effect.map(request("/metrics", as(OLGA)), ({ text }) =>
  Number(/^postilion_push_polls (\d+)$/m.exec(text)?.[1])
)
const isWaiting = (count: number) => eventually(waiting, (polls) => polls === count)
const acked = (cursors: ReadonlyArray<number>, token = EVE) =>
  post(token, "alerts/ack", { subscription: "pager", cursors })
const withDefaults = (settings: object): PostilionConfigInput["push"] => ({ channels: { "*": settings } })

describe("long polling", () => {
  it.scopedLive("answers what came after the cursor at once, and else as soon as something comes", () =>
    Effect.gen(function* () {
      expect((yield* publish("one", "a")).body).toEqual({ cursor: 1, duplicate: false })
      expect((yield* publish("one", "a")).body).toEqual({ cursor: 1, duplicate: true })
      yield* publish("two")
      const { body } = yield* poll(EVE, "since=0&timeout=60000&limit=1")
      expect(body).toMatchObject({
        messages: [{ channel: "alerts", cursor: 1, id: "a", from: "bob", data: "one" }],
        cursor: 1,
        missed: 0
      })
      const next = yield* poll(EVE, "since=2&timeout=60000").pipe(Effect.fork)
      yield* isWaiting(1)
      yield* publish("three")
      expect((yield* Fiber.join(next)).body).toMatchObject({ messages: [{ cursor: 3, data: "three" }], cursor: 3 })
      yield* isWaiting(0)
      // Without a cursor: from now on.
      expect((yield* poll(EVE, "")).body).toEqual({ messages: [], cursor: 3, missed: 0 })
      expect((yield* poll(EVE, "since=3&timeout=20")).body).toEqual({ messages: [], cursor: 3, missed: 0 })
    }).pipe(Effect.provide(serving()))
  )

  it.scopedLive("has the cursors that sockets have: what is missing is said, and so is a cursor from elsewhere", () =>
    Effect.gen(function* () {
      for (let n = 1; n <= 5; n++) yield* publish(n)
      const eve = yield* connected(EVE)
      yield* subscribe(eve, { since: 3 })
      yield* eventually(settled(eve), () => pushes(eve).length === 2)
      const { body } = yield* poll(EVE, "since=3&timeout=60000")
      const told = pushes(eve).map(({ attempt: _, seq: __, ...message }) => message)
      expect(body.messages).toEqual(told)
      expect((yield* poll(EVE, "since=1&timeout=60000")).body).toMatchObject({ missed: 1, cursor: 5 })
      expect((yield* poll(EVE, "since=77&timeout=60000")).body).toEqual({ messages: [], missed: null, cursor: 5 })
    }).pipe(Effect.provide(serving(withDefaults({ backlog: { maxMessages: 3 } }))))
  )

  it.scoped("by a subscription each message comes until it is acknowledged, however it was told before", () =>
    Effect.gen(function* () {
      yield* poll(EVE, "subscription=pager")
      for (const n of [1, 2, 3]) yield* publish(n)
      const first = yield* poll(EVE, "subscription=pager&limit=2")
      expect(first.body.messages).toMatchObject([
        { cursor: 1, attempt: 1 },
        { cursor: 2, attempt: 1 }
      ])
      expect((yield* acked([1])).status).toBe(200)
      // What is in flight is not told to the next; what is not acknowledged in time is.
      expect((yield* poll(EVE, "subscription=pager")).body.messages).toMatchObject([{ cursor: 3, attempt: 1 }])
      yield* acked([3])
      const late = yield* poll(EVE, "subscription=pager&timeout=60000").pipe(Effect.fork)
      yield* isWaiting(1)
      yield* TestClock.adjust("10 seconds")
      yield* eventually(TestClock.adjust(100), () => late.unsafePoll() !== null)
      expect((yield* Fiber.join(late)).body.messages).toMatchObject([{ cursor: 2, attempt: 2 }])
      expect(
        (yield* post(EVE, "alerts/nack", { subscription: "pager", cursors: [2], requeue: false, reason: "no" })).status
      ).toBe(200)
      const { body } = yield* request("/dead-letters", as(OLGA))
      expect(body.deadLetters).toMatchObject([{ cursor: 2, error: "no", attempts: 2 }])
      // Nothing is left of it for whoever comes by a socket.
      const eve = yield* connected(EVE)
      expect((yield* subscribe(eve, { subscription: "pager" })).result).toEqual({ cursor: 3, created: false })
      const gone = yield* request("/push/alerts/subscriptions/pager", { ...as(EVE), method: "DELETE" })
      expect(gone.status).toBe(200)
      expect((yield* acked([1])).status).toBe(404)
    }).pipe(Effect.provide(serving(withDefaults({ ackTimeoutMs: 10_000 }))))
  )

  it.scopedLive("where nothing is kept, it is told what is published while it waits", () =>
    Effect.gen(function* () {
      yield* publish("nobody")
      const waits = yield* poll(EVE, "timeout=60000").pipe(Effect.fork)
      yield* isWaiting(1)
      yield* publish("somebody")
      expect((yield* Fiber.join(waits)).body).toMatchObject({
        messages: [{ cursor: 0, data: "somebody" }],
        cursor: 0,
        missed: 0
      })
      expect((yield* poll(EVE, "subscription=pager")).status).toBe(422)
    }).pipe(Effect.provide(serving(withDefaults({ guarantee: "at-most-once" }))))
  )

  it.scopedLive("so many may wait, for so long; whoever goes away does not wait any more", () =>
    Effect.gen(function* () {
      const one = yield* poll(EVE, "timeout=60000").pipe(Effect.fork)
      yield* isWaiting(1)
      const refused = yield* poll(EVE, "timeout=1")
      expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"])
      expect((yield* poll(EVE, "timeout=0")).status).toBe(200)
      yield* Fiber.interrupt(one)
      yield* isWaiting(0)
      expect((yield* poll(EVE, "timeout=999999999")).body.messages).toEqual([])
    }).pipe(Effect.provide(serving({ maxPolls: 1, maxPollMs: 100 })))
  )

  it.scopedLive("does not hold up the stop of the gateway: who waits is answered", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(serving(), scope)
      const { url } = Context.get(context, HttpAddress)
      const polls = yield* Effect.forEach(["timeout=60000", "timeout=60000&subscription=pager"], (query) =>
        Effect.fork(requestAt(url, `/push/alerts?${query}`, as(EVE)))
      )
      yield* Effect.provide(isWaiting(2), context)
      yield* Scope.close(scope, Exit.void)
      for (const { body, status } of yield* Fiber.join(Fiber.all(polls))) {
        expect([status, body.messages]).toEqual([200, []])
      }
    })
  )

  it.scopedLive("asks for what it needs: names, numbers, JSON, and a token that may", () =>
    Effect.gen(function* () {
      for (const query of ["since=-1", "since=x", "timeout=soon", "limit=0", "limit=1001", "token=x", "wait=1"]) {
        expect((yield* poll(EVE, query)).status, query).toBe(query.startsWith("token") ? 400 : 422)
      }
      expect((yield* poll(EVE, "", "a%20b")).status).toBe(404)
      expect((yield* poll(EVE, "", "%zz")).status).toBe(404)
      expect((yield* post(BOB, "alerts", {})).status).toBe(422)
      expect((yield* post(BOB, "alerts", { data: 1, from: "olga" })).status).toBe(422)
      const refused = yield* post(EVE, "alerts", { data: 1 })
      expect([refused.status, refused.body.reason]).toEqual([403, "not-allowed"])
      expect((yield* request("/push/alerts")).status).toBe(401)
      const { headers } = yield* request("/push/alerts", { ...as(OLGA), method: "PUT" })
      expect(headers.get("allow")?.split(", ").sort()).toEqual(["GET", "HEAD", "POST"])
    }).pipe(Effect.provide(serving()))
  )
})
