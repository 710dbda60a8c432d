import { request as httpRequest } from "node:http"
import { connect } from "node:net"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import type { Channel } from "@postilion/gateway"
import { ChannelConnectionError } from "@postilion/gateway/domain/Errors"
import { HttpAddress } from "@postilion/server"
import { Context, Effect, Exit, Fiber, Layer, Schema, Scope, TestClock } from "effect"
import { cable } from "./Cable.ts"
import { type Child, start, urlOf } from "./ChildServer.ts"
import { ADA, as, delivery, eventually, request, requestAt, runsIn, server, tempDir } from "./Support.ts"
import { connected, hello, isMethod, ofWs, open } from "./Wire.ts"

const addressOf = (child: Child) =>
  Effect.map(urlOf(child), (url): Context.Tag.Service<HttpAddress> => {
    const { hostname, port } = new URL(url)
    return { host: hostname, port: Number(port), url, loopback: true }
  })

/** What an attempt to open a socket is answered: 101 where there is one. */
const upgradeAt = (url: string) =>
  Effect.async<{ readonly status: number; readonly retryAfter: string | undefined }>((resume) => {
    const headers = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": Buffer.from("0123456789abcdef").toString("base64")
    }
    const sent = httpRequest(`${url}/ws`, { headers })
    sent.on("response", (response) => {
      response.resume()
      resume(Effect.succeed({ status: response.statusCode ?? 0, retryAfter: response.headers["retry-after"] }))
    })
    sent.on("upgrade", (_, socket) => {
      socket.destroy()
      resume(Effect.succeed({ status: 101, retryAfter: undefined }))
    })
    sent.on("error", (error) => resume(Effect.die(error))).end()
  })

/** A peer that asks for a socket and then neither reads on nor hangs up. */
const hangingOn = (port: number) =>
  Effect.acquireRelease(
    Effect.async<ReturnType<typeof connect>>((resume) => {
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true })
      socket.on("error", () => {})
      socket.write(
        "GET /ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
      )
      socket.once("data", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => void socket.destroy())
  )

describe("W8: a server in its own process that is told to stop", { timeout: 120_000 }, () => {
  it.scopedLive("refuses new sockets, tells the open ones, answers what runs, and ends though peers are dead", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const child = yield* start({ storage, tokens: { ada: ADA } })
      const address = yield* addressOf(child)
      const { url } = address
      yield* Effect.gen(function* () {
        const ada = yield* connected(ADA, "operator")
        const line = yield* cable
        line.plug(address.port)
        const dead = yield* open(() => ofWs()(`ws://127.0.0.1:${line.port}/ws`))
        yield* dead.ask("connect", hello(ADA))
        expect((yield* upgradeAt(url)).status).toBe(101)
        const answer = yield* requestAt(url, "/webhooks/github", delivery("deployment", "d1"))
        yield* child.told("running")
        line.swallow()

        child.process.kill("SIGTERM")
        const told = yield* ada.until(isMethod("ERROR"))
        expect(told.params).toMatchObject({ code: "unavailable" })
        expect(told.params?.message).toMatch(/is stopping: what runs is answered until 20\d\d-/)
        expect(yield* upgradeAt(url)).toEqual({ status: 503, retryAfter: "10" })
        const refused = yield* requestAt(url, "/webhooks/github", delivery("deployment", "d2"))
        expect([refused.status, refused.headers.get("connection")]).toEqual([503, "close"])
        yield* hangingOn(address.port)
        const { result } = yield* ada.ask("status")
        const components = result?.components as ReadonlyArray<Record<string, unknown>>
        expect(components.map(({ name, state }) => `${name} ${state}`)).toEqual(
          expect.arrayContaining(["HttpDoor stopping", "SocketDoor running", "Dispatcher running"])
        )
        expect(result).toMatchObject({ isRunning: false })

        yield* child.finishRun
        expect(yield* ada.closed).toBe(1012)
        expect(yield* child.exit).toMatchObject({ code: 0, signal: null })
        expect(yield* runsIn(storage)).toMatchObject([
          { event_id: answer.body.eventId, state: "completed", attempt: 1 }
        ])
      }).pipe(Effect.provideService(HttpAddress, address))
    })
  )
})

describe("a server that stops", { timeout: 60_000 }, () => {
  it.scoped("waits for a dead peer half a second, and not for the time a close may take else", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Scope.extend(Layer.build(server()), scope)
      yield* Effect.gen(function* () {
        const line = yield* cable
        line.plug(Context.get(context, HttpAddress).port)
        const dead = yield* open(() => ofWs()(`ws://127.0.0.1:${line.port}/ws`))
        yield* dead.ask("connect", hello(ADA))
        const alive = yield* connected(ADA)
        line.swallow()
        // The library itself would wait for five seconds, by the machine's clock.
        const librarys = Effect.promise(() => new Promise((resolve) => void setTimeout(resolve, 4_900)))
        const waited = yield* Effect.fork(Effect.as(librarys, "waited"))
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        expect(yield* alive.closed).toBe(1012)
        const done = eventually(Effect.zipRight(TestClock.adjust(500), closing.status), ({ _tag }) => _tag === "Done")
        expect(yield* Effect.raceFirst(Effect.as(done, "cut off"), Fiber.join(waited))).toBe("cut off")
      }).pipe(Effect.provide(context))
    })
  )

  it.scoped("O10: status shows each component by phase, over HTTP", () =>
    Effect.gen(function* () {
      const { body } = yield* request("/status", as(ADA))
      const components = Schema.decodeUnknownSync(
        Schema.Array(Schema.Struct({ name: Schema.String, phase: Schema.String, state: Schema.String }))
      )(body.components)
      const names = (phase: string) =>
        components.filter((one) => one.phase === phase && /^[A-Z]|^channel/.test(one.name)).map(({ name }) => name)
      expect(names("bus").slice(0, 3)).toEqual(["SqliteStorage", "EventBus", "Journal"])
      expect(names("services")).toEqual(expect.arrayContaining(["Dispatcher", "Admission", "GatewayService"]))
      expect(names("channels")).toEqual(["Opening", "Access", "Push", "SocketDoor", "HttpDoor"])
      expect(components.every(({ state }) => state === "running")).toBe(true)
    }).pipe(Effect.provide(server()))
  )

  it.scoped(
    "O10: a channel that does not start ends it, from the last that started to the first; the next start is free to",
    () =>
      Effect.gen(function* () {
        const notes: Array<string> = []
        const channelOf = (name: string, start: NonNullable<Channel["start"]>): Channel => ({
          name,
          deduplicates: true,
          send: () => Effect.succeed({}),
          start
        })
        const note = (text: string) => Effect.sync(() => void notes.push(text))
        const first = channelOf(
          "first",
          Effect.acquireRelease(note("opened"), () => note("closed"))
        )
        const refusing = channelOf("chat", new ChannelConnectionError({ channel: "chat", message: "no route to it" }))
        const config = { storage: join(yield* tempDir, "ops.sqlite") }
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(server(config, undefined, { channels: [first, refusing] })))
        )
        expect(error).toMatchObject({ _tag: "GatewayStartError", phase: "channels", component: "channel chat" })
        expect(error.message).toMatch(
          /no route to it; stopped again: channel first, GatewayService, .*, SqliteStorage$/
        )
        expect(notes).toEqual(["opened", "closed"])
        yield* Effect.flatMap(request("/readyz"), ({ status }) => Effect.sync(() => expect(status).toBe(200))).pipe(
          Effect.provide(server(config, undefined, { channels: [first] }))
        )
        expect(notes).toEqual(["opened", "closed", "opened", "closed"])
      })
  )
})
