import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Client, connect, type Push } from "@postilion/client"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Context, Effect, Exit, Fiber, Layer, Queue, Scope, Stream } from "effect"
import { type Cable, cable } from "./Cable.ts"
import { BOB, EVE, serving } from "./Push.ts"
import { eventually, tempDir } from "./Support.ts"

const bob = { token: BOB, role: "agent", minReconnectDelayMs: 1 } as const
const eve = { token: EVE, minReconnectDelayMs: 1 } as const
const urlOf = (line: Cable): string => `ws://127.0.0.1:${line.port}`
const behind = (line: Cable, push: PostilionConfigInput["push"] = {}, rest: PostilionConfigInput = {}) =>
  Layer.tap(serving(push, rest), (context) => Effect.sync(() => line.plug(Context.get(context, HttpAddress).port)))

/** Listens until the scope closes. */
const collect = (client: Client.Client, options?: Push.SubscribeOptions) =>
  Effect.gen(function* () {
    const seen: Array<Push.Message> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(client.push.subscribe("alerts", options), (message) =>
        Effect.sync(() => void seen.push(message))
      )
    )
    yield* eventually(client.push.presence("alerts"), ({ present }) =>
      present.some(({ principal }) => principal === "eve")
    )
    return { seen, fiber }
  })
const dataOf = (seen: ReadonlyArray<Push.Message>) => seen.map(({ data }) => data)
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

describe("the client and the push service", () => {
  it.scopedLive("publishes, hears, and reads what is kept", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const publisher = yield* Client.make(url, bob)
      const { seen } = yield* collect(yield* Client.make(url, eve))
      for (const n of upTo(3)) yield* publisher.push.publish("alerts", n)
      expect(yield* publisher.push.publish("alerts", 4, { id: "m" })).toEqual({ cursor: 4, duplicate: false })
      expect(yield* publisher.push.publish("alerts", 4, { id: "m" })).toEqual({ cursor: 4, duplicate: true })
      yield* eventually(Effect.succeed(seen), ({ length }) => length === 4)
      expect(seen).toMatchObject(upTo(4).map((n) => ({ cursor: n, data: n, attempt: 1, missed: 0, from: "bob" })))
      const { cursor, messages } = yield* publisher.push.history("alerts", { since: 1, limit: 2 })
      expect([cursor, messages.map(({ data }) => data)]).toEqual([3, [2, 3]])
    }).pipe(Effect.provide(serving()))
  )

  it.scopedLive("a loop acknowledges what it has gone past; what it was left at comes again", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      yield* Effect.promise(async () => {
        const publisher = await connect(url, bob)
        const hearer = await connect(url, eve)
        const read = async (count: number) => {
          const seen: Array<Push.Message> = []
          for await (const message of hearer.push.subscribe("alerts", { subscription: "pager", since: 0 })) {
            seen.push(message)
            if (message.data === "bad") await hearer.push.nack(message, { requeue: false, reason: "no such disk" })
            if (seen.length === count) break
          }
          return seen.map(({ attempt, data }) => [data, attempt])
        }
        for (const data of ["one", "bad", "three", "four"]) await publisher.push.publish("alerts", data)
        expect(await read(3)).toEqual([
          ["one", 1],
          ["bad", 1],
          ["three", 1]
        ])
        expect(await read(2)).toEqual([
          ["three", 1],
          ["four", 1]
        ])
        await hearer.push.ack({ channel: "alerts", subscription: "pager", cursor: 4 })
        await publisher.push.publish("alerts", "five")
        expect(await read(1)).toEqual([["five", 1]])
        await publisher.close()
        await hearer.close()
      })
    }).pipe(Effect.provide(serving()))
  )

  it.scopedLive("goes on without gap or repeat where the network breaks, within what can be resumed and after", () =>
    Effect.gen(function* () {
      const line = yield* cable
      yield* Effect.gen(function* () {
        const { url } = yield* HttpAddress
        const publisher = yield* Client.make(url, bob)
        const { seen } = yield* collect(yield* Client.make(urlOf(line), eve))
        for (const n of upTo(40)) {
          if (n % 10 === 0) line.cut()
          yield* publisher.push.publish("alerts", n)
        }
        yield* eventually(Effect.succeed(seen), ({ length }) => length >= 40)
        expect(dataOf(seen)).toEqual(upTo(40))
      }).pipe(Effect.provide(behind(line)))
      yield* Effect.gen(function* () {
        const { url } = yield* HttpAddress
        const publisher = yield* Client.make(url, bob)
        const { seen } = yield* collect(yield* Client.make(urlOf(line), eve))
        yield* publisher.push.publish("alerts", 1)
        yield* eventually(Effect.succeed(seen), ({ length }) => length === 1)
        line.cut(true)
        for (const n of [2, 3]) yield* publisher.push.publish("alerts", n)
        // Gone, and not to be resumed.
        yield* eventually(publisher.push.presence("alerts"), ({ present }) => present.length === 0)
        line.up()
        yield* eventually(Effect.succeed(seen), ({ length }) => length >= 3)
        expect(seen).toMatchObject(upTo(3).map((data) => ({ data, missed: 0 })))
      }).pipe(Effect.provide(behind(line, {}, { webSocket: { reconnectTimeoutMs: 0 } })))
    })
  )

  it.scopedLive("by a subscription, what was not acknowledged survives a restart of the gateway", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "push.sqlite")
      const line = yield* cable
      const start = Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(behind(line, {}, { storage }), scope)
        return { url: Context.get(context, HttpAddress).url, stop: Scope.close(scope, Exit.void) }
      })
      const first = yield* start
      const hearer = yield* Client.make(urlOf(line), eve)
      const handed = yield* Queue.unbounded<Push.Message>()
      const go = yield* Queue.unbounded<void>()
      yield* Effect.forkScoped(
        Stream.runForEach(hearer.push.subscribe("alerts", { subscription: "pager", since: 0 }), (message) =>
          Effect.zipRight(Queue.offer(handed, message), Queue.take(go))
        )
      )
      yield* Effect.gen(function* () {
        const publisher = yield* Client.make(first.url, bob)
        for (const n of upTo(4)) yield* publisher.push.publish("alerts", n)
      }).pipe(Effect.scoped)
      expect((yield* Queue.take(handed)).data).toBe(1)
      yield* Queue.offer(go, undefined)
      expect((yield* Queue.take(handed)).data).toBe(2)
      line.cut(true)
      yield* first.stop
      const second = yield* start
      line.up()
      for (const _ of upTo(4)) yield* Queue.offer(go, undefined)
      const rest: Array<unknown> = []
      yield* eventually(
        Effect.map(Queue.takeAll(handed), (more) => {
          for (const { data } of more) rest.push(data)
          return rest
        }),
        (seen) => seen.includes(4)
      )
      // At least once: what it already had may come again, and nothing is left out.
      expect([...new Set(rest)].sort()).toEqual(expect.arrayContaining([3, 4]))
      expect(rest).not.toContain(1)
      yield* second.stop
    })
  )

  it.scopedLive("a subscription that another connection takes over ends the loop, with the reason", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const { fiber } = yield* collect(yield* Client.make(url, eve), { subscription: "pager" })
      const { seen } = yield* collect(yield* Client.make(url, eve), { subscription: "pager" })
      expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ code: "conflict" })
      const publisher = yield* Client.make(url, bob)
      yield* publisher.push.publish("alerts", 1)
      yield* eventually(Effect.succeed(seen), ({ length }) => length === 1)
    }).pipe(Effect.provide(serving()))
  )
})
