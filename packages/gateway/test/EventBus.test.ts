import { describe, expect, it } from "@effect/vitest"
import { AuditLog, EventBus, GatewayError, GatewayService } from "@postilion/gateway"
import type { BusEvent } from "@postilion/gateway/domain/BusEvent"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as Bus from "@postilion/gateway/records/EventBus"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Chunk, Deferred, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { gateway, watch } from "./TestGateway.ts"

const changed = (n: number): BusEvent => ({ _tag: "SwitchChanged", at: n, scope: "*", mode: "paused", by: "test" })
const budget = { scope: "*", unit: "tokens", window: "day", limit: 1, used: 1, reserved: 0, estimate: 1 } as const
const exhausted = (n: number): BusEvent => ({
  _tag: "BudgetExhausted",
  at: n,
  budget: { ...budget, resetsAt: new Date(0) },
  tokensUsed: n,
  dailyBudget: 1
})
const take = <A>(stream: Stream.Stream<A>, count: number) =>
  Effect.map(Stream.runCollect(Stream.take(stream, count)), Chunk.toReadonlyArray)
const publish = (...events: ReadonlyArray<BusEvent>) =>
  Effect.flatMap(EventBus, (bus) => Effect.forEach(events, bus.publish, { discard: true }))
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

describe("the bus", () => {
  it.scoped("gives each subscriber every event from its subscription on, in order", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      yield* publish(changed(0))
      const early = yield* bus.subscribe()
      yield* publish(changed(1), exhausted(2))
      const late = yield* bus.subscribe()
      yield* publish(changed(3))
      expect(yield* take(early, 3)).toEqual([changed(1), exhausted(2), changed(3)])
      expect(yield* take(late, 1)).toEqual([changed(3)])
    }).pipe(Effect.provide(Bus.layer))
  )

  it.scoped("filters by one tag or several", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const one = yield* bus.subscribe("BudgetExhausted")
      const both = yield* bus.subscribe(["BudgetExhausted", "SwitchChanged"])
      const none = yield* bus.subscribe([])
      yield* publish(changed(1), exhausted(2), changed(3), exhausted(4))
      expect(yield* take(one, 2)).toEqual([exhausted(2), exhausted(4)])
      expect((yield* take(both, 4)).map((event) => ("at" in event ? event.at : -1))).toEqual([1, 2, 3, 4])
      const waiting = yield* Effect.fork(take(none, 1))
      yield* Effect.yieldNow()
      expect(yield* Fiber.poll(waiting)).toMatchObject({ _tag: "None" })
    }).pipe(Effect.provide(Bus.layer))
  )

  it.scoped("a subscriber that falls behind is told how many of the oldest it missed", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const slow = yield* bus.subscribe("SwitchChanged", { capacity: 10 })
      yield* publish(...range(0, 25).map(changed))
      expect(yield* take(slow, 11)).toEqual([{ _tag: "Lagged", missed: 15 }, ...range(15, 25).map(changed)])
      // Once it has caught up, nothing is missing until it falls behind again.
      yield* publish(...range(25, 35).map(changed))
      expect(yield* take(slow, 10)).toEqual(range(25, 35).map(changed))
      yield* publish(...range(35, 46).map(changed))
      expect((yield* take(slow, 1))[0]).toEqual({ _tag: "Lagged", missed: 1 })
    }).pipe(Effect.provide(Bus.layer))
  )

  it.scoped("holds 1,024 events for a slow subscriber, unless told otherwise", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const slow = yield* bus.subscribe()
      yield* publish(...range(0, 1_025).map(changed))
      const events = yield* take(slow, 1_025)
      expect(events[0]).toEqual({ _tag: "Lagged", missed: 1 })
      expect(events.at(-1)).toEqual(changed(1_024))
    }).pipe(Effect.provide(Bus.layer))
  )

  it.scoped("a reader that waits is woken, and one that is interrupted takes nothing with it", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const stream = yield* bus.subscribe()
      const gone = yield* Effect.fork(take(stream, 1))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(gone)
      const waiting = yield* Effect.fork(take(stream, 2))
      yield* Effect.yieldNow()
      yield* publish(changed(1))
      yield* Effect.yieldNow()
      yield* publish(changed(2))
      expect(yield* Fiber.join(waiting)).toEqual([changed(1), changed(2)])
    }).pipe(Effect.provide(Bus.layer))
  )

  it.scoped("the end of its scope ends a subscription and a listener", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const heard: Array<BusEvent> = []
      const scope = yield* Scope.make()
      const stream = yield* Scope.extend(bus.subscribe(), scope)
      yield* Scope.extend(
        bus.listen((event) => heard.push(event)),
        scope
      )
      yield* publish(changed(1))
      yield* Scope.close(scope, Exit.void)
      yield* publish(changed(2), changed(3))
      expect(heard).toEqual([changed(1)])
      const waiting = yield* Effect.fork(take(stream, 2))
      yield* publish(changed(4))
      yield* Effect.yieldNow()
      expect(yield* Fiber.poll(waiting)).toMatchObject({ _tag: "None" })
    }).pipe(Effect.provide(Bus.layer))
  )
})

describe("N31: a dying subscriber, or a BigInt in a payload, killed the decision: here neither does", () => {
  const memory = gateway().pipe(Layer.provideMerge(StoreMemory.layer))
  const input: RawInput = { source: "webhook", payload: { fine: true } }

  it.scoped("a subscriber that dies, one that never reads, and a listener that throws hurt nobody", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const bus = yield* EventBus
      const died = yield* Deferred.make<void>()
      const dying = yield* bus.subscribe()
      yield* dying.pipe(
        Stream.runForEach(() => Effect.zipRight(Deferred.succeed(died, undefined), Effect.die("a dying subscriber"))),
        Effect.forkScoped
      )
      const silent = yield* bus.subscribe(undefined, { capacity: 2 })
      yield* bus.listen(() => {
        throw new Error("a listener that throws")
      })
      const told = yield* watch
      for (let n = 0; n < 5; n++) {
        const { eventId } = yield* gw.submit(input)
        expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "completed" } })
      }
      yield* Deferred.await(died)
      expect(told.events).toHaveLength(20)
      expect((yield* take(silent, 1))[0]).toEqual({ _tag: "Lagged", missed: 18 })
    }).pipe(Effect.provide(memory))
  )

  const nested = (levels: number): unknown => {
    let value: unknown = 1
    for (let i = 0; i < levels; i++) value = { value }
    return value
  }
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  const refused: ReadonlyArray<readonly [string, unknown, RegExp]> = [
    ["a BigInt", { amount: 1n }, /^payload is not JSON: bigint at \$\.amount; send it as text, or leave it out$/],
    ["a cycle", cycle, /^payload is not JSON: more than 200 levels, or a cycle,/],
    ["a function", { callback: () => 1 }, /function at \$\.callback/],
    ["a symbol", [Symbol("s")], /symbol at \$\[0\]/],
    ["NaN", { a: [1, Number.NaN] }, /NaN at \$\.a\[1\]/],
    ["Infinity", Number.NEGATIVE_INFINITY, /-Infinity at \$/],
    ["10,000 levels", nested(10_000), /more than 200 levels/],
    ["a toJSON that returns a BigInt", { at: { toJSON: () => 1n } }, /^payload is not JSON: /],
    [
      "a toJSON that throws",
      {
        at: {
          toJSON: () => {
            throw new Error("no")
          }
        }
      },
      /^payload is not JSON: /
    ],
    ["a toJSON that returns 10,000 levels", { toJSON: () => nested(10_000) }, /^payload is not JSON: /],
    [
      "a property that throws",
      {
        get secret(): string {
          throw new Error("no")
        }
      },
      /^payload is not JSON: /
    ]
  ]
  for (const [what, payload, message] of refused) {
    it.scoped(`${what} is refused as invalid input, and other events are not affected`, () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const exits = yield* Effect.forEach(
          [input, { ...input, payload }, { ...input, metadata: { payload } }, input],
          (one) => Effect.exit(gw.submit(one)),
          { concurrency: "unbounded" }
        )
        expect(exits.map(Exit.isSuccess)).toEqual([true, false, false, true])
        const error = yield* Effect.flip(gw.submit({ ...input, payload }))
        expect(error).toBeInstanceOf(GatewayError)
        expect(error).toMatchObject({ reason: "invalid-input", retryable: false })
        expect(error.message).toMatch(message)
        expect(yield* (yield* AuditLog).query({ kind: "event.decided" })).toHaveLength(2)
      }).pipe(Effect.provide(memory))
    )
  }

  it.scoped("what JSON changes, policies and agents see as it is after a restart", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const holes = new Array<unknown>(2)
      holes[1] = 1
      const { eventId } = yield* gw.submit({
        ...input,
        payload: { at: new Date(0), none: undefined, holes, map: new Map([[1, 2]]) }
      })
      expect((yield* gw.find(eventId))?.event.payload).toEqual({
        at: "1970-01-01T00:00:00.000Z",
        holes: [null, 1],
        map: {}
      })
      const nothing = yield* Effect.flip(gw.submit({ ...input, payload: { toJSON: () => undefined } }))
      expect(nothing).toMatchObject({
        reason: "invalid-input",
        message: expect.stringMatching(/^payload is not JSON: /)
      })
      const empty = yield* gw.submit({ ...input, payload: undefined })
      expect((yield* gw.find(empty.eventId))?.event.payload).toBeNull()
    }).pipe(Effect.provide(memory))
  )

  const bad: ReadonlyArray<readonly [string, object, RegExp]> = [
    ["an unknown source", { source: "email" }, /^source "email" is unknown; sources: heartbeat, cron, webhook,/],
    [
      "an unknown priority",
      { priority: "urgent" },
      /^priority "urgent" is unknown; priorities: low, normal, high, critical$/
    ],
    ["an unknown agent", { agentId: "nobody" }, /^there is no agent "nobody"; agents: agent$/],
    ["an agent of the prototype", { agentId: "constructor" }, /^there is no agent "constructor"/],
    ["a time that is none", { timestamp: new Date(Number.NaN) }, /^timestamp is not a date$/],
    ["a time that is text", { timestamp: "2024-01-01" }, /^timestamp is not a date$/],
    [
      "a payload that is too large",
      { payload: "x".repeat(1_048_577) },
      /^payload and metadata have \d+ bytes; at most 1048576 are kept/
    ],
    ["a key with half a character", { idempotencyKey: "a\ud800" }, /^idempotencyKey has half a surrogate pair/],
    ["a session with half a character", { sessionKey: "\udc00" }, /^sessionKey has half a surrogate pair/],
    ["a sender with half a character", { sender: "\ud800x" }, /^sender has half a surrogate pair/],
    ["a trace with half a character", { traceId: "\ud800" }, /^traceId has half a surrogate pair/]
  ]
  for (const [what, change, message] of bad) {
    it.scoped(`${what} is refused`, () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const error = yield* Effect.flip(gw.submit({ ...input, ...change }))
        expect(error).toMatchObject({ reason: "invalid-input", message: expect.stringMatching(message) })
        expect((yield* gw.status()).stats.webhooksReceived).toBe(0)
      }).pipe(Effect.provide(memory))
    )
  }
})
