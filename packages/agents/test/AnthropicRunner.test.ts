import { LanguageModel } from "@effect/ai"
import { describe, expect, it } from "@effect/vitest"
import * as AnthropicRunner from "@postilion/agents/AnthropicRunner"
import { AgentRunner } from "@postilion/gateway"
import { Chunk, ConfigProvider, Effect, Layer, Option, Queue, Redacted, Stream } from "effect"
import { API_KEY, contract } from "./ProviderContract.ts"
import * as Server from "./ProviderServer.ts"
import { TASK_TEXT, task } from "./Tasks.ts"

const options = (apiUrl: string) => ({ model: "claude-sonnet-4-5", apiKey: Redacted.make(API_KEY), apiUrl })

/** https://docs.anthropic.com/en/api/messages */
const MESSAGE = {
  id: "msg_01XFDUDYJgAACzvnptvVoYEL",
  type: "message",
  role: "assistant",
  model: "claude-sonnet-4-5-20250929",
  content: [{ type: "text", text: "Ticket 42 is answered.", citations: null }],
  container: null,
  context_management: null,
  stop_reason: "end_turn",
  stop_sequence: null,
  usage: { input_tokens: 61, output_tokens: 9 }
}

/** https://docs.anthropic.com/en/docs/build-with-claude/streaming */
const STREAM_BEGINNING = [
  {
    type: "message_start",
    message: { ...MESSAGE, content: [], stop_reason: null, usage: { input_tokens: 25, output_tokens: 1 } }
  },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "", citations: null } },
  { type: "ping" },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hello" } }
]

contract({
  name: "Anthropic",
  credential: "ANTHROPIC_API_KEY",
  runner: (url) => AnthropicRunner.layer(options(url)),
  languageModel: (url) => AnthropicRunner.layerModel(options(url)),
  streamBeginning: STREAM_BEGINNING
})

describe("AnthropicRunner", () => {
  it.scoped("asks the Messages API and reports its model and usage", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, MESSAGE))
      const result = yield* Effect.flatMap(AgentRunner, ({ run }) => run(task())).pipe(
        Effect.provide(AnthropicRunner.layer(options(server.url)))
      )
      expect(result).toEqual({
        text: "Ticket 42 is answered.",
        usage: { inputTokens: 61, outputTokens: 9 },
        model: "claude-sonnet-4-5-20250929"
      })
      const { body, headers, path } = yield* Queue.take(server.requests)
      expect(path).toBe("/v1/messages?beta=true")
      expect(headers).toMatchObject({
        "x-api-key": API_KEY,
        "anthropic-version": "2023-06-01",
        "content-type": "application/json"
      })
      expect(body).toMatchObject({
        model: "claude-sonnet-4-5",
        max_tokens: 512,
        system: [{ type: "text", text: "You are a support agent." }],
        messages: [
          { role: "user", content: [{ type: "text", text: "Hello" }] },
          { role: "assistant", content: [{ type: "text", text: "Hello, how can I help?" }] },
          { role: "user", content: [{ type: "text", text: TASK_TEXT }] }
        ]
      })
    })
  )

  it.scoped("streams", () =>
    Effect.gen(function* () {
      const { requests, url } = yield* Server.serve(
        Server.stream([
          ...STREAM_BEGINNING,
          { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "!" } },
          { type: "content_block_stop", index: 0 },
          {
            type: "message_delta",
            delta: { stop_reason: "end_turn", stop_sequence: null },
            usage: { output_tokens: 15 }
          },
          { type: "message_stop" }
        ])
      )
      const parts = yield* LanguageModel.streamText({ prompt: "Hi" }).pipe(
        Stream.provideLayer(AnthropicRunner.layerModel(options(url))),
        Stream.runCollect
      )
      const deltas = Chunk.filterMap(parts, (part) =>
        part.type === "text-delta" ? Option.some(part.delta) : Option.none()
      )
      expect(Chunk.join(deltas, "")).toBe("Hello!")
      expect(Option.getOrThrow(Chunk.last(parts))).toMatchObject({
        type: "finish",
        usage: { inputTokens: 25, outputTokens: 15 }
      })
      expect((yield* Queue.take(requests)).body).toMatchObject({ model: "claude-sonnet-4-5", stream: true })
    })
  )

  it.scoped("takes the key from ANTHROPIC_API_KEY, and cannot be built without", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, MESSAGE))
      const runWith = (environment: ReadonlyMap<string, string>) =>
        Effect.flatMap(AgentRunner, ({ run }) => run(task())).pipe(
          Effect.provide(
            Layer.provide(
              AnthropicRunner.layer({ model: "claude-sonnet-4-5", apiUrl: server.url }),
              Layer.setConfigProvider(ConfigProvider.fromMap(new Map(environment)))
            )
          )
        )
      yield* runWith(new Map([["ANTHROPIC_API_KEY", "from-the-environment"]]))
      expect((yield* Queue.take(server.requests)).headers["x-api-key"]).toBe("from-the-environment")
      const missing = yield* Effect.flip(runWith(new Map()))
      expect(String(missing)).toContain("ANTHROPIC_API_KEY")
    })
  )
})
