import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Client, ClientError, connect, type Protocol } from "@postilion/client"
import { GatewayService, Store } from "@postilion/gateway"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Scope, Stream, TestClock } from "effect"
import { WebSocket } from "ws"
import { type Cable, cable } from "./Cable.ts"
import { ADA, eventually, request, result, server, tempDir } from "./Support.ts"

const quick = { token: ADA, minReconnectDelayMs: 1 }

/** A server behind a cable that can be cut, and what a client finds it by. */
const behind = (line: Cable, config: PostilionConfigInput = {}, respond?: Parameters<typeof server>[1]) =>
  Layer.tap(server(config, respond), (context) => Effect.sync(() => line.plug(Context.get(context, HttpAddress).port)))
const urlOf = (line: Cable): string => `ws://127.0.0.1:${line.port}`

const collect = (client: Client.Client) =>
  Effect.gen(function* () {
    const seen: Array<Protocol.Event> = []
    yield* Effect.forkScoped(
      Stream.runForEach(yield* client.events, (event) => Effect.sync(() => void seen.push(event)))
    )
    return seen
  })

const answers = (seen: ReadonlyArray<Protocol.Event>): ReadonlyArray<string> =>
  seen.flatMap((event) => (event.type === "MESSAGE" && event.role === "assistant" ? [event.text] : []))

describe("the client", () => {
  it.scoped("asks, and is answered", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const client = yield* Client.make(url, quick)
      expect(client.welcome()).toMatchObject({ principal: "ada", scopes: ["client"], resumed: false })
      expect(yield* client.ask("ops", "how is the disk?")).toMatchObject({
        text: "done: how is the disk?",
        from: "agent"
      })
      const { turns } = yield* client.request("session.history", { session: "ops" })
      expect(turns.map(({ content }) => content)).toEqual(["how is the disk?", "done: how is the disk?"])
    }).pipe(Effect.provide(server()))
  )

  it.scoped("has an API of promises, with events as an async iterable", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      yield* Effect.promise(async () => {
        const gateway = await connect(url, quick)
        const events = gateway.events()
        await gateway.send("ops", "hello", { id: "m1" })
        expect(await gateway.send("ops", "hello", { id: "m1" })).toMatchObject({ duplicate: true })
        for await (const event of events) {
          expect(event).toMatchObject({ type: "MESSAGE", text: "done: hello" })
          break
        }
        await expect(gateway.request("broadcast", { text: "all" })).rejects.toMatchObject({ code: "forbidden" })
        await gateway.close()
        await expect(gateway.send("ops", "again")).rejects.toMatchObject({ code: "closed" })
        await expect(connect(url, { token: "wrong" })).rejects.toBeInstanceOf(ClientError)
      })
    }).pipe(Effect.provide(server()))
  )

  it.scopedLive(
    "N24: resumes after the network dropped in the middle of a run: the answer arrives once, and nothing is missed",
    () =>
      Effect.gen(function* () {
        const line = yield* cable
        const gate = yield* Deferred.make<void>()
        yield* Effect.gen(function* () {
          const client = yield* Client.make(urlOf(line), quick)
          const other = yield* Client.make(urlOf(line), quick)
          const seen = yield* collect(client)
          yield* client.send("ops", "one")
          yield* other.request("session.join", { session: "ops" })
          const { connectionId } = client.welcome()
          line.cut(true)
          yield* Deferred.succeed(gate, undefined)
          const asked = yield* Effect.fork(client.send("ops", "two", { id: "m2" }))
          line.up()
          expect(yield* Fiber.join(asked)).toMatchObject({ duplicate: false })
          yield* eventually(
            Effect.sync(() => answers(seen)),
            ({ length }) => length >= 2
          )
          // Once more in order, with something after it: what were to come twice would have come by now.
          yield* client.ask("ops", "three")
          expect(answers(seen)).toEqual(["done: one", "done: two", "done: three"])
          expect(client.welcome()).toMatchObject({ connectionId, resumed: true })
          expect(seen.map(({ type }) => type)).not.toContain("GAP")
          const numbers = seen.flatMap((event) => ("seq" in event && event.seq !== undefined ? [event.seq] : []))
          expect(numbers).toEqual(numbers.map((_, i) => i + 1))
        }).pipe(
          Effect.provide(
            behind(line, {}, (task) => Effect.as(Deferred.await(gate), result(`done: ${task.taskDescription}`)))
          )
        )
      })
  )

  it.scopedLive("gets the answer from the records when the gateway was restarted in the middle of the run", () =>
    Effect.gen(function* () {
      const line = yield* cable
      const storage = join(yield* tempDir, "ops.sqlite")
      const first = yield* Scope.make()
      const running = yield* Deferred.make<void>()
      const config = { storage, drainDeadlineMs: 0 }
      const cutOff = () => Effect.zipRight(Deferred.succeed(running, undefined), Effect.never)
      yield* Scope.extend(Layer.build(behind(line, config, cutOff)), first)
      const client = yield* Client.make(urlOf(line), quick)
      const seen = yield* collect(client)
      const sent = yield* client.send("ops", "one", { id: "m1" })
      yield* Deferred.await(running)
      line.cut(true)
      yield* Scope.close(first, Exit.void)
      yield* Layer.build(behind(line, config))
      line.up()
      yield* eventually(
        Effect.sync(() => answers(seen)),
        ({ length }) => length >= 1
      )
      expect(yield* client.send("ops", "one", { id: "m1" })).toEqual({ ...sent, duplicate: true, decision: null })
      yield* client.ask("ops", "two")
      expect(answers(seen)).toEqual(["done: one", "done: two"])
      expect(seen.filter(({ type }) => type === "GAP")).toMatchObject([{ missed: null }])
    })
  )

  it.scoped("an answer that the gateway sends again, since it does not know whether it did, is told once", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const gateway = yield* GatewayService
      const client = yield* Client.make(url, quick)
      const seen = yield* collect(client)
      yield* client.ask("ops", "one")
      const [sent] = yield* eventually(gateway.deliveries(), ([delivery]) => delivery?.state === "sent")
      const id = sent?.id ?? ""
      yield* (yield* Store).commit([{ op: "update", table: "deliveries", key: { id }, set: { state: "unknown" } }])
      yield* gateway.replayDelivery(id)
      yield* eventually(gateway.deliveries(), ([delivery]) => delivery?.state === "sent")
      yield* client.ask("ops", "two")
      expect(answers(seen)).toEqual(["done: one", "done: two"])
    }).pipe(Effect.provide(server()))
  )

  it.scopedLive("notices by itself that nothing comes any more, and goes on by another socket", () =>
    Effect.gen(function* () {
      const line = yield* cable
      yield* Effect.gen(function* () {
        const client = yield* Client.make(urlOf(line), quick)
        yield* client.ask("ops", "one")
        const { connectionId } = client.welcome()
        line.swallow()
        expect(yield* client.ask("ops", "two")).toMatchObject({ text: "done: two" })
        expect(client.welcome()).toMatchObject({ connectionId, resumed: true })
      }).pipe(Effect.provide(behind(line, { webSocket: { heartbeatIntervalMs: 50 } })))
    })
  )

  it.scopedLive("does not ask twice what would be done twice, and says so", () =>
    Effect.gen(function* () {
      const line = yield* cable
      yield* Effect.gen(function* () {
        const client = yield* Client.make(urlOf(line), { ...quick, role: "operator" })
        line.swallow()
        const told = yield* Effect.fork(Effect.flip(client.request("broadcast", { text: "all" })))
        const listed = yield* Effect.fork(client.request("agents.list", {}))
        yield* Effect.yieldNow()
        line.cut()
        expect(yield* Fiber.join(told)).toMatchObject({ code: "connection-lost" })
        expect(yield* Fiber.join(listed)).toEqual({ agents: [{ id: "agent", mode: "running" }] })
      }).pipe(Effect.provide(behind(line)))
    })
  )

  it.scoped("says that there are too many connections, or waits until there are not", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      let opened = 0
      let turnedAway = 0
      const webSocket = class extends WebSocket {
        constructor(url: string) {
          super(url)
          opened += 1
          this.on("close", (code: number) => {
            if (code === 1013) turnedAway += 1
          })
        }
      } as unknown as NonNullable<Client.ClientOptions["webSocket"]>
      const held = yield* Scope.make()
      yield* Scope.extend(Client.make(url, quick), held)
      const short = yield* Effect.fork(Effect.flip(Client.make(url, { ...quick, webSocket, requestTimeoutMs: 5_000 })))
      const long = yield* Effect.fork(Client.make(url, { ...quick, webSocket, requestTimeoutMs: 1e9 }))
      yield* eventually(
        Effect.sync(() => turnedAway),
        (count) => count === 2
      )
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(short)).toMatchObject({ code: "too-many-connections", retryAfterSeconds: 10 })
      yield* Scope.close(held, Exit.void)
      // Only while nothing is being asked: the answer needs time that this clock does not measure.
      const wait = Effect.suspend(() => (opened === turnedAway ? TestClock.adjust("10 seconds") : Effect.void))
      yield* eventually(wait, () => long.unsafePoll() !== null)
      expect((yield* Fiber.join(long)).welcome()).toMatchObject({ principal: "ada" })
    }).pipe(Effect.provide(server({ webSocket: { maxConnections: 1 } })))
  )

  it.scopedLive("ends, and says why, once the gateway does not let it in any more", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const headers = { authorization: `Bearer ${ADA}`, "content-type": "application/json" }
      const body = JSON.stringify({ name: "carl", scopes: ["client"] })
      const { body: made } = yield* request("/tokens", { method: "POST", headers, body })
      const client = yield* Client.make(url, { ...quick, token: String(made.token) })
      const ended = yield* Effect.fork(Effect.flip(Stream.runDrain(yield* client.events)))
      yield* request(`/tokens/${made.id}`, { method: "DELETE", headers })
      expect(yield* Fiber.join(ended)).toMatchObject({ code: "unauthorized", nextStep: expect.any(String) })
      expect(yield* Effect.flip(client.send("ops", "hello"))).toMatchObject({ code: "unauthorized" })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("a reader that is slower than what it is told gets a GAP, and what comes after", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const client = yield* Client.make(url, { ...quick, role: "operator", maxBufferedEvents: 2 })
      const events = yield* client.events
      const broadcast = (text: string) => client.request("broadcast", { text })
      for (const text of ["one", "two", "three", "four"]) yield* broadcast(text)
      const read = yield* Stream.runCollect(Stream.take(events, 4)).pipe(Effect.fork)
      yield* eventually(broadcast("later"), () => read.unsafePoll() !== null)
      const seen = [...(yield* Fiber.join(read))]
      expect(seen.slice(0, 2)).toMatchObject([{ text: "one" }, { text: "two" }])
      expect(seen[2]).toMatchObject({ type: "GAP" })
      expect(seen[3]).toMatchObject({ type: "BROADCAST", text: "later" })
    }).pipe(Effect.provide(server()))
  )
})
