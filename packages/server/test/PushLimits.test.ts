import { describe, expect, it } from "@effect/vitest"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Effect, Schema, SchemaAST, TestClock } from "effect"
import { WebSocket } from "ws"
import { Channel } from "../src/push/Channel.ts"
import { Message } from "../src/push/Message.ts"
import { PushConfig, settingsOf } from "../src/push/PushConfig.ts"
import { Subscription } from "../src/push/Subscription.ts"
import {
  ack,
  BOB,
  deadLetters,
  EVE,
  heard,
  hears,
  OLGA,
  poll,
  post,
  publish,
  pushes,
  serving,
  settled,
  subscribe
} from "./Push.ts"
import { as, eventually, request, server } from "./Support.ts"
import { type AnySocket, connected, type Frame, hello, open, type Wire } from "./Wire.ts"

const codeOf = ({ error }: Frame) => error?.data.code
const quiet = { webSocket: { heartbeatIntervalMs: 2 ** 31 - 1 } }
const alerts = (settings: object, rest: PostilionConfigInput = quiet) =>
  serving({ channels: { alerts: settings } }, rest)
const pager = { subscription: "pager" }
const nack = (wire: Wire, cursor: number) =>
  wire.ask("push.nack", { channel: "alerts", ...pager, cursors: [cursor], requeue: false })
/** Told one message, by a subscription. */
const told = Effect.gen(function* () {
  const bob = yield* connected(BOB, "agent")
  const eve = yield* connected(EVE)
  yield* subscribe(eve, pager)
  yield* publish(bob, 1)
  yield* hears(eve, 1)
  return { bob, eve }
})
const metric = (name: string) =>
  Effect.map(request("/metrics", as(OLGA)), ({ text }) =>
    Number(new RegExp(`^postilion_push_${name} (\\d+)$`, "m").exec(text)?.[1])
  )

/** One test a key: what it sets is seen from outside. */
const EFFECTS: Readonly<Record<string, Effect.Effect<void, unknown>>> = {
  channels: Effect.gen(function* () {
    const bob = yield* connected(BOB, "agent")
    // The name itself, then the longest beginning that fits, then all others.
    const cursors = { "jobs.night": 0, "jobs.day": 1, job: 0, alerts: 0 }
    for (const [channel, cursor] of Object.entries(cursors)) {
      expect((yield* publish(bob, 1, channel)).result, channel).toMatchObject({ cursor })
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(
      serving({
        channels: {
          "jobs.night": { guarantee: "at-most-once" },
          "jobs.*": {},
          "job*": { guarantee: "at-most-once" },
          "*": { guarantee: "at-most-once" }
        }
      })
    )
  ),
  "channels.*.guarantee": Effect.gen(function* () {
    const bob = yield* connected(BOB, "agent")
    expect((yield* publish(bob, 1)).result).toMatchObject({ cursor: 0 })
    expect((yield* publish(bob, 1, "other")).result).toMatchObject({ cursor: 1 })
  }).pipe(Effect.scoped, Effect.provide(alerts({ guarantee: "at-most-once" }))),
  "channels.*.publish": Effect.gen(function* () {
    const [bob, eve, olga] = [yield* connected(BOB, "agent"), yield* connected(EVE), yield* connected(OLGA, "operator")]
    expect(codeOf(yield* publish(bob, 1))).toBe("forbidden")
    expect(codeOf(yield* publish(eve, 1))).toBeUndefined()
    expect(codeOf(yield* publish(eve, 1, "other"))).toBe("forbidden")
    expect(codeOf(yield* publish(olga, 1))).toBeUndefined()
    // Whatever a channel says, a viewer changes nothing.
    expect(codeOf(yield* publish(yield* connected(OLGA, "viewer"), 1))).toBe("forbidden")
  }).pipe(Effect.scoped, Effect.provide(alerts({ publish: ["client", "viewer"] }))),
  "channels.*.subscribe": Effect.gen(function* () {
    const [bob, eve] = [yield* connected(BOB, "agent"), yield* connected(EVE)]
    for (const ask of [
      (wire: Wire) => subscribe(wire),
      (wire: Wire) => wire.ask("push.history", { channel: "alerts" }),
      (wire: Wire) => wire.ask("presence.query", { channel: "alerts" }),
      (wire: Wire) => ack(wire, 1)
    ]) {
      expect(codeOf(yield* ask(eve))).toBe("forbidden")
      expect(codeOf(yield* ask(bob))).not.toBe("forbidden")
    }
    expect((yield* poll(EVE, "timeout=60000")).status).toBe(403)
    expect((yield* poll(BOB, "")).status).toBe(200)
  }).pipe(Effect.scoped, Effect.provide(alerts({ subscribe: ["agent"] }))),
  "channels.*.principals": Effect.gen(function* () {
    const [bob, eve, olga] = [yield* connected(BOB, "agent"), yield* connected(EVE), yield* connected(OLGA, "operator")]
    expect(codeOf(yield* publish(bob, 1))).toBe("forbidden")
    expect(codeOf(yield* subscribe(bob))).toBe("forbidden")
    expect(codeOf(yield* subscribe(eve))).toBeUndefined()
    expect(codeOf(yield* publish(olga, 1))).toBeUndefined()
    yield* hears(eve, 1)
  }).pipe(Effect.scoped, Effect.provide(alerts({ principals: ["eve"] }))),
  "channels.*.ackTimeoutMs": Effect.gen(function* () {
    const { eve } = yield* told
    yield* TestClock.adjust(499)
    yield* settled(eve)
    expect(yield* metric("died_total")).toBe(0)
    yield* eventually(Effect.zipRight(TestClock.adjust(1), metric("died_total")), (died) => died === 1)
  }).pipe(Effect.scoped, Effect.provide(alerts({ ackTimeoutMs: 500, maxAttempts: 1 }))),
  "channels.*.maxAttempts": Effect.gen(function* () {
    const { eve } = yield* told
    yield* eventually(Effect.zipRight(TestClock.adjust("1 second"), deadLetters()), (letters) => letters.length === 1)
    expect(pushes(eve).map(({ attempt }) => attempt)).toEqual([1, 2])
  }).pipe(Effect.scoped, Effect.provide(alerts({ maxAttempts: 2, ackTimeoutMs: 1_000, retryBaseMs: 0 }))),
  "channels.*.retryBaseMs": Effect.gen(function* () {
    const { eve } = yield* told
    yield* eve.ask("push.nack", { channel: "alerts", ...pager, cursors: [1] })
    yield* TestClock.adjust(4_999)
    yield* settled(eve)
    expect(pushes(eve)).toHaveLength(1)
    yield* eventually(TestClock.adjust(1), () => pushes(eve).length === 2)
  }).pipe(Effect.scoped, Effect.provide(alerts({ retryBaseMs: 5_000 }))),
  "channels.*.retryMaxMs": Effect.gen(function* () {
    const { eve } = yield* told
    yield* eve.ask("push.nack", { channel: "alerts", ...pager, cursors: [1] })
    yield* TestClock.adjust(100)
    yield* eventually(settled(eve), () => pushes(eve).length === 2)
  }).pipe(Effect.scoped, Effect.provide(alerts({ retryBaseMs: 60_000, retryMaxMs: 100 }))),
  "channels.*.maxInFlight": Effect.gen(function* () {
    const { bob, eve } = yield* told
    yield* publish(bob, 2)
    yield* settled(eve)
    expect(pushes(eve)).toHaveLength(1)
    yield* ack(eve, 1)
    yield* hears(eve, 2)
  }).pipe(Effect.scoped, Effect.provide(alerts({ maxInFlight: 1 }))),
  "channels.*.backlog": Effect.gen(function* () {
    for (const n of [1, 2]) yield* post(BOB, "alerts", { data: n })
    expect((yield* poll(EVE, "since=0")).body).toMatchObject({ missed: 1, cursor: 2 })
  }).pipe(Effect.scoped, Effect.provide(alerts({ backlog: { maxMessages: 1 } }))),
  "channels.*.backlog.maxMessages": Effect.gen(function* () {
    for (const n of [1, 2, 3]) yield* post(BOB, "alerts", { data: n })
    expect((yield* poll(EVE, "since=0")).body).toMatchObject({ missed: 1, cursor: 3 })
  }).pipe(Effect.scoped, Effect.provide(alerts({ backlog: { maxMessages: 2 } }))),
  "channels.*.backlog.ttlMs": Effect.gen(function* () {
    yield* post(BOB, "alerts", { data: 1 })
    yield* TestClock.adjust(999)
    expect((yield* poll(EVE, "since=0")).body).toMatchObject({ missed: 0, cursor: 1 })
    yield* eventually(Effect.zipRight(TestClock.adjust(1), poll(EVE, "since=0")), ({ body }) => body.missed === 1)
  }).pipe(Effect.scoped, Effect.provide(alerts({ backlog: { ttlMs: 1_000 } }))),
  "channels.*.maxSubscribers": Effect.gen(function* () {
    const [eve, other] = [yield* connected(EVE), yield* connected(EVE)]
    yield* subscribe(eve, pager)
    expect(codeOf(yield* subscribe(other))).toBe("unavailable")
    expect((yield* poll(EVE, "timeout=60000")).status).toBe(503)
    yield* eve.ask("push.unsubscribe", { channel: "alerts" })
    expect(codeOf(yield* subscribe(other, { subscription: "second" }))).toBe("unavailable")
    expect(codeOf(yield* subscribe(other, pager))).toBeUndefined()
  }).pipe(Effect.scoped, Effect.provide(alerts({ maxSubscribers: 1 }))),
  maxChannels: Effect.gen(function* () {
    const [bob, eve] = [yield* connected(BOB, "agent"), yield* connected(EVE)]
    yield* eve.ask("push.subscribe", { channel: "a" })
    yield* publish(bob, 1, "b")
    expect(codeOf(yield* publish(bob, 1, "c"))).toBe("unavailable")
    // Nobody hears it any more, and it keeps nothing.
    yield* eve.ask("push.unsubscribe", { channel: "a" })
    expect(codeOf(yield* publish(bob, 1, "c"))).toBeUndefined()
    expect(codeOf(yield* publish(bob, 1, "d"))).toBe("unavailable")
  }).pipe(Effect.scoped, Effect.provide(serving({ maxChannels: 2 }))),
  maxMessageBytes: Effect.gen(function* () {
    const bob = yield* connected(BOB, "agent")
    expect(codeOf(yield* publish(bob, "12345678"))).toBeUndefined()
    expect(codeOf(yield* publish(bob, "1234567ä"))).toBe("invalid-params")
    expect((yield* post(BOB, "alerts", { data: "123456789" })).status).toBe(422)
  }).pipe(Effect.scoped, Effect.provide(serving({ maxMessageBytes: 10 }))),
  maxMetadataBytes: Effect.gen(function* () {
    const eve = yield* connected(EVE)
    expect(codeOf(yield* subscribe(eve, { metadata: { a: 12 } }))).toBeUndefined()
    expect(codeOf(yield* subscribe(eve, { metadata: { a: 123 } }))).toBe("invalid-params")
  }).pipe(Effect.scoped, Effect.provide(serving({ maxMetadataBytes: 8 }))),
  maxSubscriptions: Effect.gen(function* () {
    const eve = yield* connected(EVE)
    expect(codeOf(yield* subscribe(eve))).toBeUndefined()
    expect(codeOf(yield* subscribe(eve))).toBeUndefined()
    expect(codeOf(yield* eve.ask("push.subscribe", { channel: "b" }))).toBe("too-many-subscriptions")
  }).pipe(Effect.scoped, Effect.provide(serving({ maxSubscriptions: 1 }))),
  maxPolls: Effect.gen(function* () {
    yield* Effect.fork(poll(EVE, "timeout=60000"))
    yield* eventually(metric("polls"), (polls) => polls === 1)
    expect((yield* poll(EVE, "timeout=60000")).status).toBe(503)
  }).pipe(Effect.scoped, Effect.provide(serving({ maxPolls: 1 }))),
  maxPollMs: Effect.gen(function* () {
    const waits = yield* Effect.fork(poll(EVE, "timeout=60000"))
    yield* eventually(metric("polls"), (polls) => polls === 1)
    yield* TestClock.adjust(50)
    expect((yield* waits).status).toBe(200)
  }).pipe(Effect.scoped, Effect.provide(serving({ maxPollMs: 50 }))),
  subscriptionDays: Effect.gen(function* () {
    yield* poll(EVE, "subscription=pager")
    yield* TestClock.adjust("61 minutes")
    yield* eventually(metric("subscriptions"), (count) => count === 0)
  }).pipe(Effect.scoped, Effect.provide(serving({ subscriptionDays: 0.01 }, quiet))),
  maxDeadLetters: Effect.gen(function* () {
    const { bob, eve } = yield* told
    yield* publish(bob, 2)
    yield* hears(eve, 2)
    for (const cursor of [1, 2]) yield* nack(eve, cursor)
    yield* TestClock.adjust("61 minutes")
    expect(yield* eventually(deadLetters(), (letters) => letters.length === 1)).toMatchObject([{ cursor: 2 }])
  }).pipe(Effect.scoped, Effect.provide(serving({ maxDeadLetters: 1 }, quiet))),
  deadLetterDays: Effect.gen(function* () {
    const { eve } = yield* told
    yield* nack(eve, 1)
    yield* TestClock.adjust("61 minutes")
    yield* eventually(deadLetters(), (letters) => letters.length === 0)
  }).pipe(Effect.scoped, Effect.provide(serving({ deadLetterDays: 0.01 }, quiet)))
}

/** The path of every key there is. */
const keysOf = (ast: SchemaAST.AST, path = ""): ReadonlyArray<string> => {
  if (SchemaAST.isUnion(ast)) return ast.types.flatMap((type) => keysOf(type, path))
  if (SchemaAST.isRefinement(ast)) return keysOf(ast.from, path)
  if (!SchemaAST.isTypeLiteral(ast)) return []
  return [
    ...ast.propertySignatures.flatMap(({ name, type }) => {
      const own = path === "" ? String(name) : `${path}.${String(name)}`
      return [own, ...keysOf(type, own)]
    }),
    ...ast.indexSignatures.flatMap(({ type }) => keysOf(type, `${path}.*`))
  ]
}

describe("N33: every key of push has an effect", () => {
  it("and this is all of them", () => {
    expect(Object.keys(EFFECTS).sort()).toEqual([...new Set(keysOf(Schema.encodedSchema(PushConfig).ast))].sort())
  })
  for (const [key, effect] of Object.entries(EFFECTS)) it.effect(key, () => effect)
})

describe("who is told what", () => {
  it.scoped("a message is encoded once, whoever hears it", () =>
    Effect.sync(() => {
      const message = new Message({ channel: "alerts", seq: 1, id: "m", sender: "bob", at: 0, data: '{"a":1}' })
      expect(message.frame(1)).toBe(message.frame(1))
      const { head, tail } = message.frame(1)
      expect(JSON.parse(`${head}7${tail}`)).toMatchObject({ params: { seq: 7, cursor: 1, data: { a: 1 }, attempt: 1 } })
    })
  )

  it("what is due and cannot be told yet sets no alarm: it would go off again and again", () => {
    const channel = new Channel("alerts", settingsOf(Schema.decodeSync(PushConfig)({}))("alerts"), 0)
    const row = { channel: "alerts", principal: "eve", name: "pager", acked_seq: 0, seen_at: 0 }
    const subscription = new Subscription(channel, row)
    const receiver = { ready: false, away: true, message: () => {}, gap: () => {}, replaced: () => {} }
    subscription.hearer = { receiver, published: () => {}, wake: () => {} }
    subscription.retries.set(1, { attempt: 1, dueAt: 10, letter: undefined })
    expect(subscription.dueAt(9)).toBe(10)
    expect(subscription.dueAt(10)).toBe(Number.POSITIVE_INFINITY)
  })

  it.scoped(
    "N26: a subscription is its principal's: another of that name is another, and nobody acknowledges it for them",
    () =>
      Effect.gen(function* () {
        const { bob, eve } = yield* told
        expect((yield* subscribe(bob, { ...pager, since: 0 })).result).toEqual({ cursor: 0, created: true })
        yield* hears(bob, 1)
        yield* ack(bob, 1)
        yield* eve.ask("push.unsubscribe", { channel: "alerts" })
        yield* subscribe(eve, pager)
        yield* hears(eve, 2)
        expect(heard(eve)).toEqual([1, 1])
        expect((yield* post(OLGA, "alerts/ack", { ...pager, cursors: [1] })).status).toBe(404)
      }).pipe(Effect.provide(serving()))
  )

  it.scoped("N24: who reads slowly is not closed, and is told the rest when it reads again, in order", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const socket = new WebSocket(`${url.replace("http", "ws")}/ws`)
      const slow = yield* open(() => socket as unknown as AnySocket)
      yield* slow.ask("connect", hello(EVE))
      yield* subscribe(slow)
      const bob = yield* connected(BOB, "agent")
      socket.pause()
      const count = 120
      for (let n = 1; n <= count; n++) yield* publish(bob, `${n}:${"x".repeat(60_000)}`, "alerts", `m${n}`)
      socket.resume()
      yield* hears(slow, count)
      expect(pushes(slow).map(({ cursor }) => cursor)).toEqual(Array.from({ length: count }, (_, i) => i + 1))
      expect(slow.told("PUSH_GAP")).toEqual([])
      expect(slow.told("ERROR")).toEqual([])
    }).pipe(Effect.provide(serving({}, { webSocket: { maxBufferedBytes: 500_000 } })))
  )

  it.scoped("a channel by a name that is none is refused, and so is a setting", () =>
    Effect.gen(function* () {
      const bob = yield* connected(BOB, "agent")
      for (const channel of ["", "a b", "a/b", "*", "x".repeat(101)]) {
        expect(codeOf(yield* publish(bob, 1, channel)), channel).toBe("invalid-params")
      }
      expect((yield* bob.ask("push.publish", { channel: "alerts", id: "m" })).error?.message).toContain("data")
      const failure = yield* Effect.flip(
        Effect.scoped(Effect.provide(Effect.void, server({ push: { channels: { "a*b": {} } } })))
      )
      expect(String(failure)).toContain("push.channels")
    }).pipe(Effect.provide(serving()))
  )
})
