import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { Protocol } from "@postilion/client"
import { GatewayService } from "@postilion/gateway"
import { HttpAddress } from "@postilion/server"
import { Deferred, Effect, Exit, Layer, Logger, Schema, Scope, TestClock } from "effect"
import { WebSocket } from "ws"
import { pem, sslOf } from "./Fixtures.ts"
import { ADA, as, eventually, MALLORY, request, result, server } from "./Support.ts"
import { type AnySocket, connected, type Frame, hello, isMethod, ofWs, open, type Wire } from "./Wire.ts"

const BOB = "token-of-bob"
const VERA = "token-of-vera"
const people = {
  tokens: {
    ada: { token: ADA, scopes: ["client"] },
    bob: { token: BOB, scopes: ["agent"] },
    vera: { token: VERA, scopes: ["viewer"] },
    mallory: { token: MALLORY, scopes: ["client"] },
    olga: "token-of-olga"
  },
  accessControl: { allowedSenders: ["ada", "bob"] }
} as const
const OLGA = "token-of-olga"

const decodeApprovals = (result: unknown) =>
  Schema.decodeUnknownSync(Protocol.methods["approvals.list"].result)(result).approvals
const codeOf = (frame: Frame) => frame.error?.data.code
const texts = (wire: Wire) => wire.told("MESSAGE").map(({ params }) => params?.text)
const say = (wire: Wire, session: string, text: string, more: object = {}) =>
  wire.ask("session.send", { session, id: text, text, ...more })
/** Whatever was told before this is answered has been told. */
const settled = (wire: Wire) => wire.ask("ping")

describe("what was said", () => {
  it.scoped("is found by who said it by its event's id, and by nobody else", () =>
    Effect.gen(function* () {
      const wire = yield* connected(ADA)
      const { result: sent } = yield* say(wire, "ops", "how is the disk?")
      const path = `/events/${sent?.eventId}`
      expect((yield* request(path, as(ADA))).body).toMatchObject({ event: { sender: "ada" } })
      expect((yield* request(path, as(MALLORY))).status).toBe(404)
    }).pipe(Effect.provide(server(people)))
  )
})

describe("over TLS", () => {
  it.scoped("the same port answers wss", () =>
    Effect.gen(function* () {
      const ca = readFileSync(pem("ca.crt"))
      const wire = yield* connected(ADA, "client", (url) => new WebSocket(url, { ca }) as unknown as AnySocket)
      expect((yield* wire.ask("ping")).result).toEqual({ seq: 0 })
      const stranger = yield* open()
      expect(yield* stranger.closed).toBe(1006)
    }).pipe(Effect.provide(server({ ...people, ssl: sslOf("server") })))
  )
})

describe("the handshake", () => {
  const refusedWith = (params: unknown) =>
    Effect.gen(function* () {
      const wire = yield* open()
      const code = codeOf(yield* wire.ask("connect", params))
      return [code, yield* wire.closed]
    })

  it.scoped("refuses with a stable code and what to do, and closes", () =>
    Effect.gen(function* () {
      expect(yield* refusedWith({ ...hello(ADA), protocol: [2, 3] })).toEqual(["version-mismatch", 1008])
      expect(yield* refusedWith(hello("wrong"))).toEqual(["unauthorized", 1008])
      expect(yield* refusedWith(hello(undefined))).toEqual(["unauthorized", 1008])
      // X8: nobody gets what their token is not for.
      expect(yield* refusedWith(hello(ADA, "operator"))).toEqual(["forbidden", 1008])
      expect(yield* refusedWith(hello(VERA, "client"))).toEqual(["forbidden", 1008])
      const early = yield* open()
      expect(codeOf(yield* early.ask("status"))).toBe("not-connected")
      const refused = yield* early.ask("connect", { ...hello(ADA), approved: true })
      expect(refused.error).toMatchObject({
        code: -32602,
        data: { code: "invalid-params", nextStep: expect.any(String) }
      })
      expect((yield* early.ask("connect", hello(ADA))).result).toMatchObject({ principal: "ada" })
      expect(codeOf(yield* early.ask("connect", hello(ADA)))).toBe("already-connected")
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("takes the token of the Authorization header too", () =>
    Effect.gen(function* () {
      const wire = yield* open(ofWs({ authorization: `Bearer ${ADA}` }))
      expect((yield* wire.ask("connect", hello(undefined))).result).toMatchObject({ principal: "ada" })
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("an operator may ask for less, and gets no more than asked for", () =>
    Effect.gen(function* () {
      const wire = yield* connected(OLGA, "viewer")
      expect((yield* wire.ask("status")).result).toMatchObject({ isRunning: true, connections: 1 })
      expect(codeOf(yield* say(wire, "ops", "hello"))).toBe("forbidden")
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("X7, X15: a page of another origin, another host and a token in the URL get no socket", () =>
    Effect.gen(function* () {
      const upgraded = (headers: Record<string, string>, query = "") =>
        Effect.flatMap(
          open((url) => ofWs(headers)(url + query)),
          ({ closed }) => closed
        )
      expect(yield* upgraded({ origin: "https://evil.example.com" })).toBe(1006)
      expect(yield* upgraded({ host: "rebound.example.com" })).toBe(1006)
      expect(yield* upgraded({}, `?token=${ADA}`)).toBe(1006)
      const { url } = yield* HttpAddress
      const own = yield* open(ofWs({ origin: url }))
      expect((yield* own.ask("connect", hello(ADA))).result).toMatchObject({ principal: "ada" })
    }).pipe(Effect.provide(server(people)))
  )
})

describe("sessions", () => {
  it.scoped("a program's name is in the log, at debug", () => {
    const lines: Array<string> = []
    const log = Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ message }) => void lines.push(String(message)))
    )
    const settings = { ...people, observability: { logLevel: "debug" } } as const
    return Effect.gen(function* () {
      const wire = yield* open()
      yield* wire.ask("connect", { ...hello(ADA), client: { name: "kiosk\n2", version: "7" } })
      const isThere = (what: string) => lines.some((line) => line.includes(`ada as client, by "kiosk\\n2 7", ${what}`))
      yield* eventually(
        Effect.sync(() => isThere("has connected")),
        Boolean
      )
      wire.socket.close()
      yield* eventually(
        Effect.sync(() => isThere("has lost its socket")),
        Boolean
      )
    }).pipe(Effect.provide(server(settings).pipe(Layer.provide(log))))
  })

  it.scoped("what is wrong with parameters is said in words, with what may stand there", () =>
    Effect.gen(function* () {
      const wire = yield* connected(OLGA, "operator")
      for (const [method, params, message] of [
        ["session.history", { session: "ops", turns: 0 }, "turns must be a whole number from 1 to 1000"],
        ["session.send", { session: "x".repeat(257), id: "1", text: "hi" }, "session must have 256 characters at most"],
        ["session.join", { session: "ops", since: -1 }, "since must be a whole number, 0 or more"],
        ["push.subscribe", { channel: "a b" }, "channel must be letters, digits and ._:-, 100 at most"],
        ["push.history", { channel: "a", limit: 1e6 }, "limit must be a whole number from 1 to 1000"],
        ["events.subscribe", { filter: { types: ["PolicyDecisonMade"] } }, 'did you mean "PolicyDecisionMade"?'],
        ["events.subscribe", { filter: { types: ["toString"] } }, "there are: GatewayEventReceived, "]
      ] as const) {
        const { error } = yield* wire.ask(method, params)
        expect(error?.data.code, method).toBe("invalid-params")
        expect(error?.message).toContain(message)
      }
      const stranger = yield* open()
      const { error } = yield* stranger.ask("connect", hello(ADA, "root"))
      expect(error?.message).toBe('connect: role Expected "client" or "agent" or "viewer" or "operator", actual "root"')
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("N26: one client never sees another's session, nor its stream, nor takes its connection over", () =>
    Effect.gen(function* () {
      const ada = yield* open()
      const { result: welcome } = yield* ada.ask("connect", hello(ADA))
      const mallory = yield* connected(MALLORY)
      yield* say(ada, "ops", "the secret")
      yield* ada.until(isMethod("MESSAGE"))
      for (const [method, params] of [
        ["session.join", { session: "ops", owner: "ada" }],
        ["session.join", { session: "ops", owner: "ada", since: 0 }],
        ["session.join", { session: "ops", owner: "ada", invite: ["mallory"] }],
        ["session.history", { session: "ops", owner: "ada" }],
        ["session.send", { session: "ops", owner: "ada", id: "m", text: "mine now" }],
        ["events.subscribe", {}],
        ["broadcast", { text: "hello" }],
        ["approvals.list", {}]
      ] as const) {
        expect(codeOf(yield* mallory.ask(method, params)), method).toBe("forbidden")
      }
      // The same name is another session.
      expect((yield* mallory.ask("session.join", { session: "ops", since: 0 })).result).toMatchObject({ cursor: 0 })
      expect((yield* mallory.ask("session.history", { session: "ops" })).result).toEqual({ turns: [] })
      const thief = yield* open()
      const taken = yield* thief.ask("connect", hello(MALLORY, "client", { token: welcome?.resumeToken, seq: 0 }))
      expect(taken.result).toMatchObject({ principal: "mallory", resumed: false })
      expect((yield* ada.ask("ping")).result).toEqual({ seq: 1 })
      expect(JSON.stringify([mallory.frames, thief.frames])).not.toContain("secret")
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("W4: several agents and clients talk in one session, once its owner has invited them", () =>
    Effect.gen(function* () {
      const ada = yield* connected(ADA)
      const bob = yield* connected(BOB, "agent")
      expect((yield* ada.ask("session.join", { session: "ops", invite: ["bob"] })).result).toMatchObject({
        members: [{ principal: "ada", role: "client" }]
      })
      yield* bob.ask("session.join", { session: "ops", owner: "ada" })
      expect((yield* ada.until(isMethod("CONNECT"))).params).toMatchObject({
        principal: "bob",
        role: "agent",
        session: "ops"
      })
      yield* say(bob, "ops", "from bob", { owner: "ada" })
      const heard = yield* ada.until(({ params }) => params?.role === "assistant")
      expect(texts(ada)).toEqual(["from bob", "done: from bob"])
      expect(heard.params).toMatchObject({ owner: "ada", from: "agent" })
      yield* bob.until(({ params }) => params?.role === "assistant")
      expect(texts(bob)).toEqual(["done: from bob"])
      yield* bob.ask("session.leave", { session: "ops", owner: "ada" })
      expect((yield* ada.until(isMethod("DISCONNECT"))).params).toMatchObject({ principal: "bob" })
      yield* say(ada, "ops", "alone")
      yield* ada.until(({ params }) => params?.text === "done: alone")
      yield* settled(bob)
      expect(texts(bob)).toEqual(["done: from bob"])
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("who joins with a cursor is told the answers after it, once, before what is answered meanwhile", () =>
    Effect.gen(function* () {
      const ada = yield* connected(ADA)
      for (const text of ["one", "two", "three"]) {
        yield* say(ada, "ops", text)
        yield* ada.until(({ params }) => params?.text === `done: ${text}`)
      }
      const first = ada.told("MESSAGE")[0]?.params
      const late = yield* connected(ADA)
      const joined = yield* late.ask("session.join", { session: "ops", since: first?.cursor })
      expect(texts(late)).toEqual(["done: two", "done: three"])
      expect(late.told("MESSAGE").at(-1)?.params?.cursor).toBe(joined.result?.cursor)
      yield* say(ada, "ops", "four")
      yield* late.until(({ params }) => params?.text === "done: four")
      expect(texts(late)).toEqual(["done: two", "done: three", "four", "done: four"])
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("who will not be answered is told so", () =>
    Effect.gen(function* () {
      const wire = yield* connected(MALLORY)
      const { result: sent } = yield* say(wire, "ops", "let me in")
      const error = yield* wire.until(isMethod("ERROR"))
      expect(error.params).toMatchObject({ code: "suppressed", session: "ops", eventId: sent?.eventId })
      expect(error.params?.message).toBe('sender "mallory" has no access')
    }).pipe(Effect.provide(server(people)))
  )
})

describe("the gateway's events", () => {
  it.scoped("N24: are told to who subscribes, as filtered, and from a cursor on", () =>
    Effect.gen(function* () {
      const vera = yield* connected(VERA, "viewer")
      const types = ["ProactiveActionInitiated", "ProactiveActionCompleted"]
      yield* vera.ask("events.subscribe", { filter: { types } })
      const ada = yield* connected(ADA)
      yield* say(ada, "ops", "one")
      yield* vera.until(
        ({ params }) => (params?.event as { _tag?: string } | undefined)?._tag === "ProactiveActionCompleted"
      )
      const told = vera.told("GATEWAY").map(({ params }) => params as { cursor: string; event: { _tag: string } })
      expect(told.map(({ event }) => event._tag)).toEqual(types)
      const late = yield* connected(VERA, "viewer")
      yield* late.ask("events.subscribe", { filter: { types }, since: told[0]?.cursor })
      yield* settled(late)
      expect(late.told("GATEWAY").map(({ params }) => params?.cursor)).toEqual([told[1]?.cursor])
      expect(late.told("GAP")).toEqual([])
      const stranger = yield* connected(VERA, "viewer")
      yield* stranger.ask("events.subscribe", { since: "another-process-7" })
      expect(stranger.told("GAP")).toMatchObject([{ params: { missed: null } }])
      yield* late.ask("events.unsubscribe")
      yield* say(ada, "ops", "two")
      yield* ada.until(({ params }) => params?.text === "done: two")
      yield* settled(late)
      expect(late.told("GATEWAY").length).toBe(1)
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("approvals are listed and answered, agents listed, and everyone told", () =>
    Effect.gen(function* () {
      const olga = yield* connected(OLGA, "operator")
      const ada = yield* connected(ADA)
      yield* say(ada, "ops", "may I?")
      const approvals = Effect.map(olga.ask("approvals.list"), ({ result }) => decodeApprovals(result))
      const [approval] = yield* eventually(approvals, ({ length }) => length > 0)
      expect(codeOf(yield* ada.ask("approvals.approve", { id: approval?.id }))).toBe("forbidden")
      expect(codeOf(yield* olga.ask("approvals.approve", { id: approval?.id, digest: "0".repeat(64) }))).toBe(
        "conflict"
      )
      expect(codeOf(yield* olga.ask("approvals.deny", { id: "apr_none" }))).toBe("not-found")
      expect(
        (yield* olga.ask("approvals.approve", { id: approval?.id, digest: approval?.digest })).result
      ).toMatchObject({
        state: "approved",
        decidedBy: "olga"
      })
      expect((yield* ada.until(isMethod("MESSAGE"))).params).toMatchObject({ text: "done: may I?" })
      expect((yield* ada.ask("agents.list")).result).toEqual({ agents: [{ id: "agent", mode: "running" }] })
      expect((yield* olga.ask("broadcast", { text: "closing at six" })).result).toEqual({ connections: 2 })
      expect((yield* ada.until(isMethod("BROADCAST"))).params).toMatchObject({ from: "olga", text: "closing at six" })
    }).pipe(Effect.provide(server({ ...people, policies: { requireApprovalFor: ["message"] } })))
  )
})

describe("the end", () => {
  it.scoped("W8: what runs is answered, new work is refused, and then sockets are closed with 1012", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const gate = yield* Deferred.make<void>()
      const respond = () => Effect.as(Deferred.await(gate), result("done"))
      const context = yield* Scope.extend(Layer.build(server(people, respond)), scope)
      yield* Effect.gen(function* () {
        const wire = yield* connected(ADA)
        yield* say(wire, "ops", "one")
        const gateway = yield* GatewayService
        yield* eventually(gateway.status(), ({ pending }) => pending.running === 1)
        yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* eventually(gateway.status(), ({ isRunning }) => !isRunning)
        const refused = yield* say(wire, "ops", "two")
        expect(refused.error?.data).toMatchObject({ code: "unavailable", retryAfterSeconds: 10 })
        yield* Deferred.succeed(gate, undefined)
        expect(yield* wire.closed).toBe(1012)
      }).pipe(Effect.provide(context))
    })
  )
})

describe("a peer that is gone", () => {
  it.scoped("heartbeats are told, and one that answers them stays", () =>
    Effect.gen(function* () {
      const wire = yield* connected(ADA)
      for (const beats of [1, 2, 3, 4]) {
        yield* TestClock.adjust("30 seconds")
        yield* eventually(
          Effect.sync(() => wire.told("HEARTBEAT")),
          ({ length }) => length === beats
        )
        yield* settled(wire)
      }
      expect((yield* wire.ask("ping")).result).toEqual({ seq: 0 })
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("X9: a token that is revoked ends its connections, with a socket and without", () =>
    Effect.gen(function* () {
      const headers = { authorization: `Bearer ${OLGA}`, "content-type": "application/json" }
      const body = JSON.stringify({ name: "carl", scopes: ["client"] })
      const { body: made } = yield* request("/tokens", { method: "POST", headers, body })
      const token = String(made.token)
      const live = yield* connected(token)
      const lost = yield* open()
      const welcome = yield* lost.ask("connect", hello(token))
      lost.socket.close(4000)
      yield* lost.closed
      const other = yield* connected(ADA)
      expect((yield* request(`/tokens/${made.id}`, { method: "DELETE", headers })).status).toBe(200)
      expect((yield* live.until(isMethod("ERROR"))).params).toMatchObject({ code: "token-revoked" })
      expect(yield* live.closed).toBe(1008)
      const back = yield* open()
      const resume = { token: welcome.result?.resumeToken, seq: 0 }
      expect(codeOf(yield* back.ask("connect", hello(token, "client", resume)))).toBe("unauthorized")
      yield* settled(other)
      const olga = yield* connected(OLGA, "operator")
      expect((yield* olga.ask("status")).result).toMatchObject({ connections: 2 })
    }).pipe(Effect.provide(server(people)))
  )

  it.scoped("who never says who it is is closed after 15 seconds", () =>
    Effect.gen(function* () {
      const wire = yield* open()
      yield* TestClock.adjust("15 seconds")
      expect(yield* wire.closed).toBe(1008)
    }).pipe(Effect.provide(server(people)))
  )
})
