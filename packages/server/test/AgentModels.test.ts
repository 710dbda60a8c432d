import { describe, expect, it } from "@effect/vitest"
import { GatewayService } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { Postilion, type PostilionConfigInput } from "@postilion/server"
import { ConfigProvider, Effect, Layer } from "effect"
import { answer, receiver, silence } from "./Receiver.ts"
import { done } from "./Support.ts"

type Agent = NonNullable<PostilionConfigInput["agents"]>[string]

const completion = JSON.stringify({
  model: "qwen3",
  choices: [{ index: 0, message: { role: "assistant", content: "from the model" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 4, completion_tokens: 3, total_tokens: 7 }
})
const json = { "content-type": "application/json" }

/** What a run of the agent comes to, beside one without a model. */
const running = (agent: Agent) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const ask = (agentId: string) =>
      Effect.gen(function* () {
        const { eventId } = yield* gateway.submit({ source: "state-change", payload: "look", agentId })
        return (yield* gateway.outcome(eventId)).run
      })
    return { own: yield* ask("own"), other: yield* ask("other") }
  }).pipe(
    Effect.provide(
      Postilion.layer({
        storage: ":memory:",
        port: 0,
        agents: { own: agent, other: {} },
        limits: { maxAttempts: 1 }
      }).pipe(Layer.provide(layerScripted(done)))
    )
  )
const refusal = (agent: Agent) =>
  Effect.map(
    Effect.flip(
      Effect.scoped(
        Layer.build(
          Postilion.layer({ storage: ":memory:", port: 0, agents: { own: agent } }).pipe(
            Layer.provide(layerScripted(done))
          )
        )
      )
    ),
    (error) => (error._tag === "GatewayConfigError" ? `${error.path}: ${error.message}` : error._tag)
  )

describe("what an agent is run on", () => {
  it.scopedLive("model: each has its own, and one without is run by the program's runner", () =>
    Effect.gen(function* () {
      const { own, other } = yield* running({ model: "offline" })
      expect(own?.text).toContain("offline model")
      expect(other).toMatchObject({ text: "done: look", model: "scripted" })
    })
  )

  it.scopedLive(
    "baseUrl: where the model is served; ollama and compatible take no key, or the apiKey they are given",
    () =>
      Effect.gen(function* () {
        const { received, url } = yield* receiver(answer(200, json, completion))
        for (const provider of ["ollama", "compatible"]) {
          const { own } = yield* running({ model: `${provider}/qwen3`, baseUrl: url })
          expect(own).toMatchObject({ text: "from the model", model: "qwen3", inputTokens: 4 })
        }
        yield* running({ model: "compatible/qwen3", baseUrl: url, apiKey: "k3y" })
        expect(received.map(({ headers, path }) => [path, headers.authorization])).toEqual([
          ["/hook/chat/completions", undefined],
          ["/hook/chat/completions", undefined],
          ["/hook/chat/completions", "Bearer k3y"]
        ])
      })
  )

  it.scopedLive("apiKey: what Anthropic and OpenAI are asked with", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver(answer(400, json, JSON.stringify({ error: { message: "no" } })))
      yield* running({ model: "anthropic/claude", baseUrl: url, apiKey: "a-key" })
      yield* running({ model: "openai/gpt", baseUrl: url, apiKey: "o-key" })
      expect(received.map(({ headers, path }) => [path, headers["x-api-key"] ?? headers.authorization])).toEqual([
        ["/hook/v1/messages?beta=true", "a-key"],
        ["/hook/responses", "Bearer o-key"]
      ])
    })
  )

  it.scopedLive("modelTimeoutMs: how long the model may take", () =>
    Effect.gen(function* () {
      const { url } = yield* receiver(silence)
      const { own } = yield* running({ model: "compatible/qwen3", baseUrl: url, modelTimeoutMs: 50 })
      expect(own?.error).toContain("did not answer within 50ms")
    })
  )

  it.live("what cannot be run is refused at once", () =>
    Effect.gen(function* () {
      expect(yield* refusal({ model: "gpt-5" })).toMatch(/^agents\.own\.model: .*must be "offline", or a provider/)
      expect(yield* refusal({ model: "compatible/x" })).toMatch(/^agents\.own\.baseUrl: .*missing/)
      const unkeyed = refusal({ model: "openai/gpt" }).pipe(
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))
      )
      expect(yield* unkeyed).toMatch(/^agents\.own\.model: .*openai\/gpt needs a key; set OPENAI_API_KEY/)
      expect(yield* refusal({ apiKey: "k" })).toMatch(/^agents\.own\.apiKey: .*has no effect/)
    })
  )
})
