import { describe, expect, it } from "@effect/vitest"
import type { PostilionConfig, PostilionConfigInput } from "@postilion/server"
import { HttpAddress } from "@postilion/server"
import { Context, Effect, Layer, TestClock } from "effect"
import { WebSocket } from "ws"
import { cable } from "./Cable.ts"
import { ADA, eventually, request, server } from "./Support.ts"
import { type AnySocket, connected, type Frame, hello, isMethod, ofWs, open, type Wire } from "./Wire.ts"

const BOB = "token-of-bob"
const OLGA = "token-of-olga"
const serving = (webSocket: NonNullable<PostilionConfigInput["webSocket"]> = {}) =>
  server({
    tokens: { ada: { token: ADA, scopes: ["client"] }, bob: { token: BOB, scopes: ["agent"] }, olga: OLGA },
    webSocket
  })

const codeOf = (frame: Frame) => frame.error?.data.code
const settled = (wire: Wire) => wire.ask("ping")
/** Loses its socket, without a goodbye. */
const lose = (wire: Wire) => {
  wire.socket.close(4_000)
  return wire.closed
}
const tokenOf = ({ result }: Frame) => result?.resumeToken
const resume = (token: unknown, seq: number) =>
  Effect.gen(function* () {
    const wire = yield* open()
    const { result } = yield* wire.ask("connect", hello(ADA, "client", { token, seq }))
    yield* settled(wire)
    return { wire, welcome: result }
  })
const numbers = (wire: Wire) => wire.told("BROADCAST").map(({ params }) => params?.seq)

describe("a client that does not keep to the rules", () => {
  it.scoped("10,000 malformed frames: ten are answered, the socket is closed, and others notice nothing", () =>
    Effect.gen(function* () {
      const wire = yield* connected(ADA)
      const other = yield* connected(ADA)
      const frames = ["", "{", "null", "[]", '{"jsonrpc":"1.0"}', '{"jsonrpc":"2.0","id":{},"method":"ping"}', "\u0000"]
      for (let n = 0; n < 10_000; n++) wire.send(frames[n % frames.length])
      expect(yield* wire.closed).toBe(1008)
      expect(wire.frames.filter(({ error }) => error !== undefined).length).toBe(10)
      expect(new Set(wire.frames.slice(1).map(codeOf))).toEqual(new Set(["parse-error", "invalid-request"]))
      expect((yield* other.ask("ping")).result).toEqual({ seq: 0 })
      expect((yield* request("/livez")).status).toBe(200)
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("what is understood in between starts the count again; binary is not", () =>
    Effect.gen(function* () {
      const wire = yield* connected(ADA)
      for (let n = 0; n < 9; n++) wire.socket.send(new Uint8Array([n]))
      yield* settled(wire)
      for (let n = 0; n < 9; n++) wire.send("{")
      expect((yield* wire.ask("ping")).result).toEqual({ seq: 0 })
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("a flood is refused past the rate, and closes its socket; the next minute is another", () =>
    Effect.gen(function* () {
      const wire = yield* connected(ADA)
      for (let n = 0; n < 8; n++) yield* wire.ask("ping")
      // Not as an answer to this one: what is over the rate is not even read.
      wire.send({ jsonrpc: "2.0", id: "over", method: "ping" })
      const refused = yield* wire.until(({ error }) => error !== undefined)
      expect(refused).toMatchObject({ id: null, error: { data: { code: "rate-limited", retryAfterSeconds: 60 } } })
      yield* TestClock.adjust("60 seconds")
      yield* settled(wire)
      for (let n = 0; n < 1_000; n++) wire.send({ jsonrpc: "2.0", id: `flood ${n}`, method: "ping" })
      expect(yield* wire.closed).toBe(1008)
      expect(wire.frames.filter((frame) => codeOf(frame) === "rate-limited").length).toBe(11)
    }).pipe(Effect.provide(serving({ maxMessagesPerMinute: 9 })))
  )

  it.scoped(
    "a slow consumer is told so and closed with 1013; resumed, it is told the rest, and how much it missed",
    () =>
      Effect.gen(function* () {
        const { url } = yield* HttpAddress
        const socket = new WebSocket(`${url.replace("http", "ws")}/ws`)
        const slow = yield* open(() => socket as unknown as AnySocket)
        const welcome = yield* slow.ask("connect", hello(ADA))
        const bob = yield* connected(BOB, "agent")
        socket.pause()
        const sent = 100
        for (let n = 0; n < sent; n++) yield* bob.ask("broadcast", { text: "x".repeat(100_000) })
        socket.resume()
        expect(yield* slow.closed).toBe(1013)
        const seen = numbers(slow)
        expect(seen.length).toBeLessThan(sent)
        expect(seen).toEqual(seen.map((_, i) => i + 1))
        expect(slow.frames.at(-1)).toMatchObject({ method: "ERROR", params: { code: "slow-consumer" } })
        const { wire } = yield* resume(tokenOf(welcome), seen.length)
        const missed = Number(wire.told("GAP")[0]?.params?.missed ?? 0)
        expect(numbers(wire)).toEqual(
          Array.from({ length: sent - seen.length - missed }, (_, i) => seen.length + missed + i + 1)
        )
        // The fast one has it all.
        expect(bob.told("BROADCAST").length).toBe(sent)
      }).pipe(Effect.provide(serving({ maxBufferedBytes: 1_000_000 })))
  )

  it.scoped("a peer that went silent without a close is given up, kept for a while, and then gone", () =>
    Effect.gen(function* () {
      const line = yield* cable
      const context = yield* Layer.build(serving())
      yield* Effect.gen(function* () {
        line.plug(Context.get(context, HttpAddress).port)
        const ada = yield* open(() => ofWs()(`ws://127.0.0.1:${line.port}/ws`))
        yield* ada.ask("connect", hello(ADA))
        yield* ada.ask("session.join", { session: "ops", invite: ["bob"] })
        const bob = yield* connected(BOB, "agent")
        yield* bob.ask("session.join", { session: "ops", owner: "ada" })
        line.swallow()
        const minute = Effect.gen(function* () {
          for (const _ of ["first", "second"]) {
            yield* TestClock.adjust("30 seconds")
            yield* settled(bob)
          }
        })
        yield* minute
        yield* minute
        expect(bob.told("DISCONNECT")).toEqual([])
        yield* minute
        expect((yield* bob.until(isMethod("DISCONNECT"))).params).toMatchObject({ principal: "ada", session: "ops" })
        expect(ada.told("HEARTBEAT")).toEqual([])
      }).pipe(Effect.provide(context))
    })
  )
})

type Key = keyof PostilionConfig["webSocket"]

/** One test a key: what it sets is seen from outside. */
const effects: { readonly [K in Key]: Effect.Effect<void> } = {
  maxConnections: Effect.gen(function* () {
    const first = yield* connected(ADA)
    // Opened, so that a browser can read why.
    const second = yield* open()
    const { error } = yield* second.ask("connect", hello(ADA))
    expect(error?.data).toMatchObject({
      code: "too-many-connections",
      nextStep: expect.any(String),
      retryAfterSeconds: 10
    })
    expect(yield* second.closed).toBe(1013)
    const waiting = yield* Effect.forEach(Array.from({ length: 16 }), () => open())
    expect(yield* (yield* open()).closed).toBe(1006)
    for (const wire of waiting) yield* lose(wire)
    yield* lose(first)
    yield* eventually(
      Effect.flatMap(open(), (wire) =>
        Effect.raceFirst(Effect.as(wire.ask("connect", hello(ADA)), true), Effect.as(wire.closed, false))
      ),
      (isIn) => isIn
    )
  }).pipe(Effect.scoped, Effect.provide(serving({ maxConnections: 1 })), Effect.orDie),
  maxPayload: Effect.gen(function* () {
    const wire = yield* connected(ADA)
    wire.send(" ".repeat(300))
    expect(codeOf(yield* wire.until(({ error }) => error !== undefined))).toBe("parse-error")
    wire.send(" ".repeat(301))
    expect(yield* wire.closed).toBe(1009)
  }).pipe(Effect.scoped, Effect.provide(serving({ maxPayload: 300 })), Effect.orDie),
  heartbeatIntervalMs: Effect.gen(function* () {
    const wire = yield* connected(ADA)
    yield* TestClock.adjust(5_000)
    expect((yield* wire.until(isMethod("HEARTBEAT"))).params).toEqual({ at: 5_000 })
  }).pipe(Effect.scoped, Effect.provide(serving({ heartbeatIntervalMs: 5_000 })), Effect.orDie),
  handshakeTimeoutMs: Effect.gen(function* () {
    const wire = yield* open()
    yield* TestClock.adjust(100)
    expect(yield* wire.closed).toBe(1008)
  }).pipe(Effect.scoped, Effect.provide(serving({ handshakeTimeoutMs: 100 })), Effect.orDie),
  reconnectTimeoutMs: Effect.gen(function* () {
    const olga = yield* connected(OLGA, "operator")
    const connections = Effect.map(olga.ask("status"), ({ result }) => result?.connections)
    const wire = yield* open()
    const welcome = yield* wire.ask("connect", hello(ADA))
    yield* lose(wire)
    yield* TestClock.adjust(999)
    const second = yield* resume(tokenOf(welcome), 0)
    expect(second.welcome).toMatchObject({ resumed: true })
    expect(yield* connections).toBe(2)
    yield* lose(second.wire)
    yield* eventually(Effect.zipRight(TestClock.adjust(1_000), connections), (count) => count === 1)
    expect((yield* resume(second.welcome?.resumeToken, 0)).welcome).toMatchObject({ resumed: false })
  }).pipe(Effect.scoped, Effect.provide(serving({ reconnectTimeoutMs: 1_000 })), Effect.orDie),
  maxMessagesPerMinute: Effect.gen(function* () {
    const wire = yield* connected(ADA)
    wire.send({ jsonrpc: "2.0", id: "second", method: "ping" })
    expect(codeOf(yield* wire.until(({ error }) => error !== undefined))).toBe("rate-limited")
  }).pipe(Effect.scoped, Effect.provide(serving({ maxMessagesPerMinute: 1 })), Effect.orDie),
  maxBufferedBytes: Effect.gen(function* () {
    expect(yield* keptOf([1_000, 1_000, 1_000])).toEqual([1, [2, 3]])
  }).pipe(Effect.scoped, Effect.provide(serving({ maxBufferedBytes: 2_500 })), Effect.orDie),
  maxReplay: Effect.gen(function* () {
    expect(yield* keptOf([1, 1, 1])).toEqual([2, [3]])
  }).pipe(Effect.scoped, Effect.provide(serving({ maxReplay: 1 })), Effect.orDie),
  maxSessions: Effect.gen(function* () {
    const wire = yield* connected(ADA)
    yield* wire.ask("session.join", { session: "one" })
    expect(codeOf(yield* wire.ask("session.join", { session: "two" }))).toBe("too-many-sessions")
    yield* wire.ask("session.leave", { session: "one" })
    expect((yield* wire.ask("session.join", { session: "two" })).result).toMatchObject({ session: "two" })
  }).pipe(Effect.scoped, Effect.provide(serving({ maxSessions: 1 })), Effect.orDie)
}

/** How many of these broadcasts a connection without a socket has missed for good, and the numbers of those it is told. */
const keptOf = (lengths: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const wire = yield* open()
    const welcome = yield* wire.ask("connect", hello(ADA))
    yield* lose(wire)
    const bob = yield* connected(BOB, "agent")
    for (const length of lengths) yield* bob.ask("broadcast", { text: "x".repeat(length) })
    const { wire: again } = yield* resume(tokenOf(welcome), 0)
    return [again.told("GAP")[0]?.params?.missed, numbers(again)] as const
  })

describe("N33: every key of webSocket has an effect", () => {
  for (const [key, effect] of Object.entries(effects)) it.effect(key, () => effect)
})
