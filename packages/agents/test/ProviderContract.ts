import { inspect } from "node:util"
import { LanguageModel } from "@effect/ai"
import { describe, expect, it } from "@effect/vitest"
import { AgentRunner } from "@postilion/gateway"
import { Cause, type ConfigError, Effect, Exit, Fiber, type Layer, Option, Queue, Stream, TestClock } from "effect"
import * as Server from "./ProviderServer.ts"
import { task } from "./Tasks.ts"

export const API_KEY = "sk-secret-of-the-tests"

export interface Provider {
  readonly name: string
  /** What a 401 tells the user to check. */
  readonly credential: string
  readonly runner: (url: string) => Layer.Layer<AgentRunner, ConfigError.ConfigError>
  readonly languageModel: (url: string) => Layer.Layer<LanguageModel.LanguageModel, ConfigError.ConfigError>
  /** A stream's beginning, with one delta. */
  readonly streamBeginning: ReadonlyArray<unknown>
}

const ERROR_BODY = { type: "error", error: { type: "some_error", message: "The provider's own words." } }

/** What every provider's runner does, whatever its wire format. */
export const contract = ({ credential, languageModel, name, runner, streamBeginning }: Provider): void => {
  const runAt = (url: string) => Effect.flatMap(AgentRunner, ({ run }) => run(task())).pipe(Effect.provide(runner(url)))

  const failureOf = (answer: Server.Answer) =>
    Effect.gen(function* () {
      const { url } = yield* Server.serve(answer)
      const error = yield* Effect.flip(runAt(url))
      if (error._tag !== "AgentRunError") return yield* Effect.die(error)
      const everything = inspect(error, { depth: 20 }) + JSON.stringify(error) + Cause.pretty(Cause.fail(error))
      expect(everything).not.toContain(API_KEY)
      return error
    })

  const streamAt = (url: string) =>
    LanguageModel.streamText({ prompt: "Hi" }).pipe(Stream.provideLayer(languageModel(url)))

  describe(`every provider: ${name}`, () => {
    it.scoped("429: retryable, after the seconds of retry-after", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.json(429, ERROR_BODY, { "retry-after": "7" }))
        expect(error).toMatchObject({ retryable: true, retryAfterMillis: 7000 })
        expect(error.message).toContain("429: The provider's own words. Try again later")
      })
    )

    it.scoped("429: retry-after may be a date", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(Date.parse("2026-01-01T00:00:00Z"))
        const error = yield* failureOf(Server.json(429, ERROR_BODY, { "retry-after": "Thu, 01 Jan 2026 00:01:00 GMT" }))
        expect(error.retryAfterMillis).toBe(60_000)
      })
    )

    it.scoped("429 with a body that is no error of the API keeps its status", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.json(429, { detail: "slow down" }, { "retry-after": "1" }))
        expect(error).toMatchObject({ retryable: true, retryAfterMillis: 1000 })
        expect(error.message).toContain("slow down")
      })
    )

    it.scoped("529 overloaded and 500: retryable, without a time", () =>
      Effect.gen(function* () {
        for (const status of [529, 500]) {
          const error = yield* failureOf(Server.json(status, ERROR_BODY))
          expect(error.retryable).toBe(true)
          expect(error.retryAfterMillis).toBeUndefined()
          expect(error.message).toContain(`${status}: The provider's own words`)
        }
      })
    )

    it.scoped("400: final, in the provider's words", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.json(400, ERROR_BODY))
        expect(error.retryable).toBe(false)
        expect(error.message).toContain("400: The provider's own words. Check the model's name")
      })
    )

    it.scoped(`401: final, names ${credential}, and never repeats the key`, () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.json(401, { error: { message: `Incorrect API key: ${API_KEY}` } }))
        expect(error.retryable).toBe(false)
        expect(error.message).toContain(`check ${credential}`)
      })
    )

    it.scoped("a body that is not JSON: final", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.text("<html>not what you expect</html>"))
        expect(error.retryable).toBe(false)
      })
    )

    it.scoped("JSON of another shape: final", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.json(200, { hello: "world" }))
        expect(error.retryable).toBe(false)
        expect(error.message).toContain("not an answer of its API")
      })
    )

    it.scoped("a body cut off: retryable", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(Server.cut)
        expect(error.retryable).toBe(true)
        expect(error.message).toContain("the connection closed before the whole answer had come")
      })
    )

    it.effect("connection refused: retryable, and says so", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(runAt(yield* Server.unusedUrl))
        expect(error).toMatchObject({ _tag: "AgentRunError", retryable: true })
        expect(error.message).toContain("ECONNREFUSED")
      })
    )

    it.scoped("a redirect is not followed: it would carry the key elsewhere", () =>
      Effect.gen(function* () {
        const elsewhere = yield* Server.serve(Server.json(200, {}))
        const error = yield* failureOf(Server.json(307, {}, { location: elsewhere.url }))
        expect(error.retryable).toBe(false)
        expect(error.message).toContain("307")
        expect(yield* Queue.size(elsewhere.requests)).toBe(0)
      })
    )

    for (const [when, answer] of [
      ["no answer", Server.silence],
      ["half an answer", Server.stall]
    ] as const) {
      it.scoped(`${when} for 120 seconds: times out, retryable, and the request is aborted`, () =>
        Effect.gen(function* () {
          const server = yield* Server.serve(answer)
          const fiber = yield* Effect.fork(Effect.flip(runAt(server.url)))
          yield* Queue.take(server.requests)
          yield* TestClock.adjust("119 seconds")
          expect(Option.isNone(yield* Fiber.poll(fiber))).toBe(true)
          yield* TestClock.adjust("1 seconds")
          const error = yield* Fiber.join(fiber)
          expect(error).toMatchObject({ _tag: "AgentRunError", retryable: true })
          expect(error.message).toContain("did not answer within 2m")
          yield* server.aborted
        })
      )

      it.scoped(`${when}, interrupted: the request is aborted`, () =>
        Effect.gen(function* () {
          const server = yield* Server.serve(answer)
          const fiber = yield* Effect.fork(runAt(server.url))
          yield* Queue.take(server.requests)
          expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
          yield* server.aborted
        })
      )
    }

    it.scoped("a stream cut off fails after what had come", () =>
      Effect.gen(function* () {
        const { url } = yield* Server.serve(Server.streamCut(streamBeginning))
        const seen: Array<string> = []
        const error = yield* streamAt(url).pipe(
          Stream.runForEach((part) => Effect.sync(() => seen.push(part.type))),
          Effect.flip
        )
        expect(seen).toContain("text-delta")
        expect(error._tag).toBe("HttpResponseError")
      })
    )

    it.scoped("a stream no longer read is aborted", () =>
      Effect.gen(function* () {
        const server = yield* Server.serve(Server.streamStall(streamBeginning))
        const first = yield* streamAt(server.url).pipe(
          Stream.filter((part) => part.type === "text-delta"),
          Stream.runHead
        )
        expect(Option.isSome(first)).toBe(true)
        yield* server.aborted
      })
    )

    it.scoped("a stream refused with 529 fails with its status", () =>
      Effect.gen(function* () {
        const { url } = yield* Server.serve(Server.json(529, ERROR_BODY))
        const error = yield* Effect.flip(Stream.runDrain(streamAt(url)))
        expect(error).toMatchObject({ _tag: "HttpResponseError", response: { status: 529 } })
      })
    )
  })
}
