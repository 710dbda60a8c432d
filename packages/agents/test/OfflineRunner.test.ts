import { LanguageModel } from "@effect/ai"
import { describe, expect, it } from "@effect/vitest"
import { MaxOutputTokens, OfflineModel, OfflineRunner } from "@postilion/agents"
import { AgentRunner } from "@postilion/gateway"
import { Chunk, Effect, Fiber, Option, Schema, Stream, TestClock } from "effect"
import { task } from "./Tasks.ts"

const run = (overrides: Parameters<typeof task>[0] = {}) =>
  Effect.flatMap(AgentRunner, (runner) => runner.run(task(overrides))).pipe(Effect.provide(OfflineRunner.layer()))

describe("OfflineModel", () => {
  it.effect("says what it is, repeats the question, counts what it was given; the same each time", () =>
    Effect.gen(function* () {
      const { finishReason, text, usage } = yield* LanguageModel.generateText({
        prompt: [
          { role: "system", content: "1234" },
          { role: "user", content: "How are you?\nReally." }
        ]
      })
      expect(text).toBe("[offline model, no network, no intelligence] I was asked: How are you? (6 input tokens)")
      expect(finishReason).toBe("stop")
      expect(usage).toMatchObject({ inputTokens: 6, outputTokens: OfflineModel.countTokens(text) })
    }).pipe(Effect.repeatN(1), Effect.provide(OfflineModel.layer()))
  )

  it.effect("counts four characters as a token, the last one begun", () =>
    Effect.sync(() => {
      expect(["", "a", "abcd", "abcde", "🐎🐎🐎🐎", "🐎🐎🐎🐎🐎"].map(OfflineModel.countTokens)).toEqual([
        0, 1, 1, 2, 1, 2
      ])
    })
  )

  it.effect("stops at the output limit", () =>
    Effect.gen(function* () {
      const { finishReason, text, usage } = yield* LanguageModel.generateText({ prompt: "Hi" }).pipe(
        MaxOutputTokens.limit(5)
      )
      expect(text).toBe("[offline model, no n")
      expect(finishReason).toBe("length")
      expect(usage.outputTokens).toBe(5)
    }).pipe(Effect.provide(OfflineModel.layer()))
  )

  it.effect("streams the same answer, word by word", () =>
    Effect.gen(function* () {
      const { text, usage } = yield* LanguageModel.generateText({ prompt: "Hi" })
      const parts = yield* Stream.runCollect(LanguageModel.streamText({ prompt: "Hi" }))
      const deltas = Chunk.filterMap(parts, (part) =>
        part.type === "text-delta" ? Option.some(part.delta) : Option.none()
      )
      expect(deltas.length).toBeGreaterThan(5)
      expect(Chunk.join(deltas, "")).toBe(text)
      expect(Option.getOrThrow(Chunk.last(parts))).toMatchObject({ type: "finish", usage })
    }).pipe(Effect.provide(OfflineModel.layer()))
  )

  it.effect("refuses to make up an object", () =>
    Effect.gen(function* () {
      const error = yield* LanguageModel.generateObject({
        prompt: "Hi",
        schema: Schema.Struct({ city: Schema.String })
      }).pipe(Effect.flip)
      expect(error).toMatchObject({ _tag: "MalformedInput" })
    }).pipe(Effect.provide(OfflineModel.layer()))
  )
})

describe("OfflineRunner", () => {
  it.effect("runs a task under the model's name", () =>
    Effect.gen(function* () {
      const { model, text, usage } = yield* run()
      expect(model).toBe("offline-model")
      expect(text).toContain("I was asked: Answer the ticket.")
      expect(usage.outputTokens).toBe(OfflineModel.countTokens(text))
    })
  )

  it.effect("honours the agent's maxOutputTokens, and never uses more than was estimated", () =>
    Effect.gen(function* () {
      const agent = { id: "a", instructions: "Be brief.", maxOutputTokens: 3 }
      const { usage } = yield* run({ agent, history: [] })
      const { estimate } = yield* Effect.provide(AgentRunner, OfflineRunner.layer())
      expect(usage.outputTokens).toBe(3)
      expect(usage.inputTokens + usage.outputTokens).toBeLessThanOrEqual(estimate(task({ agent }), 0))
    })
  )

  it.effect("takes the time it was told to take", () =>
    Effect.gen(function* () {
      const runner = yield* Effect.provide(AgentRunner, OfflineRunner.layer({ delayMs: 1500 }))
      const fiber = yield* Effect.fork(runner.run(task()))
      yield* TestClock.adjust(1499)
      expect(Option.isNone(yield* Fiber.poll(fiber))).toBe(true)
      yield* TestClock.adjust(1)
      expect((yield* Fiber.join(fiber)).model).toBe("offline-model")
    })
  )
})
