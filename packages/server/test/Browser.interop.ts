import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import type { Protocol } from "@postilion/client"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Context, Deferred, Effect, Exit, Layer, Scope } from "effect"
import { type Cable, cable } from "./Cable.ts"
import { browser, ELSEWHERE, site, visit } from "./Chromium.ts"
import { redirecting, stranger } from "./Stranger.ts"
import { ADA, eventually, result, server, tempDir } from "./Support.ts"

/** A server that pages of this origin may ask, behind a cable. */
const behind = (
  line: Cable,
  origin: string,
  respond?: Parameters<typeof server>[1],
  config: PostilionConfigInput = {}
) =>
  Layer.tap(server({ allowedOrigins: [origin], ...config }, respond), (context) =>
    Effect.sync(() => line.plug(Context.get(context, HttpAddress).port))
  )
const urlOf = (line: Cable): string => `ws://127.0.0.1:${line.port}`

const answers = (seen: ReadonlyArray<Protocol.Event>): ReadonlyArray<string> =>
  seen.flatMap((event) => (event.type === "MESSAGE" && event.role === "assistant" ? [event.text] : []))

describe("the client in a browser", () => {
  it.scopedLive("asks, is answered, and goes on where it was after the network dropped in the middle of a run", () =>
    Effect.gen(function* () {
      const { origin } = yield* site
      const inside = yield* visit(yield* browser, origin)
      const line = yield* cable
      const gate = yield* Deferred.make<void>()
      const respond: Parameters<typeof server>[1] = ({ taskDescription: text }) =>
        Effect.as(text === "two" ? Deferred.await(gate) : Effect.void, result(`done: ${text}`))
      yield* Layer.build(behind(line, origin, respond))
      yield* inside("connect", urlOf(line), ADA)
      expect(yield* inside("ask", "ops", "one")).toMatchObject({ text: "done: one", from: "agent" })
      const { connectionId } = yield* inside("welcome")
      yield* inside("send", "ops", "two", "m2")
      line.cut(true)
      yield* Deferred.succeed(gate, undefined)
      line.up()
      expect(yield* inside("send", "ops", "two", "m2")).toMatchObject({ duplicate: true })
      // What were to come twice would have come before this.
      yield* inside("ask", "ops", "three")
      const seen = yield* inside("events")
      expect(answers(seen)).toEqual(["done: one", "done: two", "done: three"])
      expect(seen.map(({ type }) => type)).not.toContain("GAP")
      const numbers = seen.flatMap((event) => ("seq" in event && event.seq !== undefined ? [event.seq] : []))
      expect(numbers).toEqual(numbers.map((_, i) => i + 1))
      expect(yield* inside("welcome")).toMatchObject({ connectionId, resumed: true })
      expect((yield* inside("history", "ops")).turns).toHaveLength(6)
      yield* inside("close")
    })
  )

  it.scopedLive("gets the answer from the records when the gateway was restarted in the middle of the run", () =>
    Effect.gen(function* () {
      const { origin } = yield* site
      const inside = yield* visit(yield* browser, origin)
      const line = yield* cable
      const config = { storage: join(yield* tempDir, "ops.sqlite"), drainDeadlineMs: 0 }
      const running = yield* Deferred.make<void>()
      const first = yield* Scope.make()
      const cutOff = () => Effect.zipRight(Deferred.succeed(running, undefined), Effect.never)
      yield* Scope.extend(Layer.build(behind(line, origin, cutOff, config)), first)
      yield* inside("connect", urlOf(line), ADA)
      yield* inside("send", "ops", "one", "m1")
      yield* Deferred.await(running)
      line.cut(true)
      yield* Scope.close(first, Exit.void)
      yield* Layer.build(behind(line, origin, undefined, config))
      line.up()
      yield* eventually(inside("events"), (seen) => answers(seen).length >= 1)
      yield* inside("ask", "ops", "two")
      const seen = yield* inside("events")
      expect(answers(seen)).toEqual(["done: one", "done: two"])
      expect(seen.filter(({ type }) => type === "GAP")).toMatchObject([{ missed: null }])
    })
  )
})

describe("pages of a browser", () => {
  it.scopedLive("X7: one of another origin gets no socket, nor by a name that was made to lead here", () =>
    Effect.gen(function* () {
      const { elsewhere, origin } = yield* site
      const running = yield* browser
      const context = yield* Layer.build(server({ allowedOrigins: [origin] }))
      const { port } = Context.get(context, HttpAddress)
      const refused = { opened: false, code: 1006 }
      const there = yield* visit(running, elsewhere)
      expect(yield* there("tries", `ws://127.0.0.1:${port}/ws`)).toEqual(refused)
      expect(yield* there("tries", `ws://localhost:${port}/ws`)).toEqual(refused)
      expect(yield* there("tries", `ws://${ELSEWHERE}:${port}/ws`)).toEqual(refused)
      const here = yield* visit(running, origin)
      expect(yield* here("tries", `ws://${ELSEWHERE}:${port}/ws`)).toEqual(refused)
      // X15: nor one that would have it in its address.
      expect(yield* here("tries", `ws://127.0.0.1:${port}/ws?token=${ADA}`)).toEqual(refused)
      expect(yield* here("tries", `ws://127.0.0.1:${port}/ws`)).toMatchObject({ opened: true })
    })
  )

  it.scopedLive("X1: a redirect is not followed", () =>
    Effect.gen(function* () {
      const { origin } = yield* site
      const inside = yield* visit(yield* browser, origin)
      const thief = yield* stranger((socket) => socket.destroy())
      const gate = yield* redirecting(thief.url)
      expect(yield* inside("tries", gate.url)).toEqual({ opened: false, code: 1006 })
      expect(gate.asked()).toBeGreaterThan(0)
      expect(thief.asked()).toBe(0)
    })
  )
})
