import { LanguageModel } from "@effect/ai"
import { describe, expect, it } from "@effect/vitest"
import * as OpenAiRunner from "@postilion/agents/OpenAiRunner"
import { AgentRunner } from "@postilion/gateway"
import { Chunk, ConfigProvider, Effect, Layer, Option, Queue, Redacted, Stream } from "effect"
import { API_KEY, contract } from "./ProviderContract.ts"
import * as Server from "./ProviderServer.ts"
import { TASK_TEXT, task } from "./Tasks.ts"

const options = (apiUrl: string) => ({ model: "gpt-4.1-mini", apiKey: Redacted.make(API_KEY), apiUrl: `${apiUrl}/v1` })

const OUTPUT_TEXT = { type: "output_text", text: "Ticket 42 is answered.", annotations: [], logprobs: [] }

const OUTPUT_MESSAGE = { type: "message", id: "msg_67ccd2bf", status: "completed", role: "assistant" }

/** https://platform.openai.com/docs/api-reference/responses/object */
const RESPONSE = {
  id: "resp_67ccd2bed1ec8190",
  object: "response",
  created_at: 1741476542,
  status: "completed",
  error: null,
  incomplete_details: null,
  instructions: null,
  max_output_tokens: 512,
  model: "gpt-4.1-mini-2025-04-14",
  output: [{ ...OUTPUT_MESSAGE, content: [OUTPUT_TEXT] }],
  parallel_tool_calls: true,
  previous_response_id: null,
  reasoning: { effort: null, summary: null },
  store: false,
  temperature: 1,
  text: { format: { type: "text" } },
  tool_choice: "auto",
  tools: [],
  top_p: 1,
  truncation: "disabled",
  usage: {
    input_tokens: 36,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 8,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 44
  },
  user: null,
  metadata: {}
}

const STARTED = { ...RESPONSE, status: "in_progress", output: [], usage: null }

const AT = { item_id: OUTPUT_MESSAGE.id, output_index: 0, content_index: 0 }

/** https://platform.openai.com/docs/guides/streaming-responses */
const STREAM_BEGINNING = [
  { type: "response.created", sequence_number: 0, response: STARTED },
  { type: "response.in_progress", sequence_number: 1, response: STARTED },
  {
    type: "response.output_item.added",
    sequence_number: 2,
    output_index: 0,
    item: { ...OUTPUT_MESSAGE, status: "in_progress", content: [] }
  },
  { type: "response.content_part.added", sequence_number: 3, ...AT, part: { ...OUTPUT_TEXT, text: "" } },
  { type: "response.output_text.delta", sequence_number: 4, ...AT, delta: "Ticket 42", logprobs: [] }
]

contract({
  name: "OpenAI",
  credential: "OPENAI_API_KEY",
  runner: (url) => OpenAiRunner.layer(options(url)),
  languageModel: (url) => OpenAiRunner.layerModel(options(url)),
  streamBeginning: STREAM_BEGINNING
})

describe("OpenAiRunner", () => {
  it.scoped("asks the Responses API, stores nothing there, and reports its model and usage", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, RESPONSE))
      const result = yield* Effect.flatMap(AgentRunner, ({ run }) => run(task())).pipe(
        Effect.provide(OpenAiRunner.layer(options(server.url)))
      )
      expect(result).toEqual({
        text: "Ticket 42 is answered.",
        usage: { inputTokens: 36, outputTokens: 8 },
        model: "gpt-4.1-mini-2025-04-14"
      })
      const { body, headers, path } = yield* Queue.take(server.requests)
      expect(path).toBe("/v1/responses")
      expect(headers).toMatchObject({ authorization: `Bearer ${API_KEY}`, "content-type": "application/json" })
      expect(body).toMatchObject({
        model: "gpt-4.1-mini",
        max_output_tokens: 512,
        store: false,
        input: [
          { role: "system", content: "You are a support agent." },
          { role: "user", content: [{ type: "input_text", text: "Hello" }] },
          { role: "assistant", content: [{ type: "output_text", text: "Hello, how can I help?" }] },
          { role: "user", content: [{ type: "input_text", text: TASK_TEXT }] }
        ]
      })
    })
  )

  it.scoped("streams", () =>
    Effect.gen(function* () {
      const { requests, url } = yield* Server.serve(
        Server.stream([
          ...STREAM_BEGINNING,
          { type: "response.output_text.delta", sequence_number: 5, ...AT, delta: " is answered.", logprobs: [] },
          { type: "response.output_text.done", sequence_number: 6, ...AT, text: OUTPUT_TEXT.text, logprobs: [] },
          { type: "response.content_part.done", sequence_number: 7, ...AT, part: OUTPUT_TEXT },
          { type: "response.output_item.done", sequence_number: 8, output_index: 0, item: RESPONSE.output[0] },
          { type: "response.completed", sequence_number: 9, response: RESPONSE }
        ])
      )
      const parts = yield* LanguageModel.streamText({ prompt: "Hi" }).pipe(
        Stream.provideLayer(OpenAiRunner.layerModel(options(url))),
        Stream.runCollect
      )
      const deltas = Chunk.filterMap(parts, (part) =>
        part.type === "text-delta" ? Option.some(part.delta) : Option.none()
      )
      expect(Chunk.join(deltas, "")).toBe("Ticket 42 is answered.")
      expect(Option.getOrThrow(Chunk.last(parts))).toMatchObject({
        type: "finish",
        usage: { inputTokens: 36, outputTokens: 8 }
      })
      expect((yield* Queue.take(requests)).body).toMatchObject({ model: "gpt-4.1-mini", stream: true })
    })
  )

  it.scoped("takes the key from OPENAI_API_KEY, and cannot be built without", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, RESPONSE))
      const runWith = (environment: Iterable<readonly [string, string]>) =>
        Effect.flatMap(AgentRunner, ({ run }) => run(task())).pipe(
          Effect.provide(
            Layer.provide(
              OpenAiRunner.layer({ model: "gpt-4.1-mini", apiUrl: server.url }),
              Layer.setConfigProvider(ConfigProvider.fromMap(new Map(environment)))
            )
          )
        )
      yield* runWith([["OPENAI_API_KEY", "from-the-environment"]])
      expect((yield* Queue.take(server.requests)).headers.authorization).toBe("Bearer from-the-environment")
      const missing = yield* Effect.flip(runWith([]))
      expect(String(missing)).toContain("OPENAI_API_KEY")
    })
  )
})
