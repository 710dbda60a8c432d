import { LanguageModel, Tool, Toolkit } from "@effect/ai"
import { describe, expect, it } from "@effect/vitest"
import * as MaxOutputTokens from "@postilion/agents/MaxOutputTokens"
import * as OpenAiCompatibleRunner from "@postilion/agents/OpenAiCompatibleRunner"
import { AgentRunner } from "@postilion/gateway"
import { Chunk, Effect, Option, Queue, Redacted, Schema, Stream } from "effect"
import { API_KEY, contract } from "./ProviderContract.ts"
import * as Server from "./ProviderServer.ts"
import { TASK_TEXT, task } from "./Tasks.ts"

const options = (url: string) => ({ model: "qwen3:8b", baseUrl: `${url}/v1`, apiKey: Redacted.make(API_KEY) })

/** As Ollama answers: https://github.com/ollama/ollama/blob/main/docs/openai.md */
const completion = (content: string | null) => ({
  id: "chatcmpl-123",
  object: "chat.completion",
  created: 1741476542,
  model: "qwen3:8b-q4",
  system_fingerprint: "fp_ollama",
  choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
  usage: { prompt_tokens: 40, completion_tokens: 7, total_tokens: 47 }
})

const chunk = (choices: ReadonlyArray<object>, usage?: object) => ({
  id: "chatcmpl-123",
  object: "chat.completion.chunk",
  created: 1741476542,
  model: "qwen3:8b-q4",
  choices,
  usage: usage ?? null
})

const delta = (content: string) => chunk([{ index: 0, delta: { role: "assistant", content }, finish_reason: null }])

const STREAM_BEGINNING = [delta(""), delta("Ticket 42")]

contract({
  name: "OpenAI-compatible server",
  credential: "the option apiKey",
  runner: (url) => OpenAiCompatibleRunner.layer(options(url)),
  languageModel: (url) => OpenAiCompatibleRunner.layerModel(options(url)),
  streamBeginning: STREAM_BEGINNING
})

const streamOf = (events: ReadonlyArray<unknown>) =>
  Effect.gen(function* () {
    const { requests, url } = yield* Server.serve(Server.stream(events))
    const parts = LanguageModel.streamText({ prompt: "Hi" }).pipe(
      Stream.provideLayer(OpenAiCompatibleRunner.layerModel(options(url)))
    )
    return { parts, requests }
  })

describe("OpenAiCompatibleRunner", () => {
  it.scoped("asks for a chat completion and reports its model and usage", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, completion("Ticket 42 is answered.")))
      const result = yield* Effect.flatMap(AgentRunner, ({ run }) => run(task())).pipe(
        Effect.provide(OpenAiCompatibleRunner.layer(options(server.url)))
      )
      expect(result).toEqual({
        text: "Ticket 42 is answered.",
        usage: { inputTokens: 40, outputTokens: 7 },
        model: "qwen3:8b-q4"
      })
      const { body, headers, path } = yield* Queue.take(server.requests)
      expect(path).toBe("/v1/chat/completions")
      expect(headers).toMatchObject({ authorization: `Bearer ${API_KEY}`, "content-type": "application/json" })
      expect(body).toEqual({
        model: "qwen3:8b",
        max_tokens: 512,
        messages: [
          { role: "system", content: "You are a support agent." },
          { role: "user", content: "Hello" },
          { role: "assistant", content: "Hello, how can I help?" },
          { role: "user", content: TASK_TEXT }
        ]
      })
    })
  )

  it.scoped("works without a key, with a slash at the URL's end, and with a server that says only the text", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, { choices: [{ message: { content: "12345678" } }] }))
      const layer = OpenAiCompatibleRunner.layer({ model: "local", baseUrl: `${server.url}/v1/` })
      const [estimate, result] = yield* Effect.flatMap(AgentRunner, ({ estimate, run }) =>
        Effect.map(run(task({ history: [] })), (result) => [estimate(task(), 0), result] as const)
      ).pipe(Effect.provide(layer))
      expect(result).toEqual({
        text: "12345678",
        usage: { inputTokens: estimate - 512, outputTokens: 3 },
        model: "local"
      })
      const { headers, path } = yield* Queue.take(server.requests)
      expect(path).toBe("/v1/chat/completions")
      expect(headers.authorization).toBeUndefined()
    })
  )

  it.scoped("streams, and counts what the server counted", () =>
    Effect.gen(function* () {
      const { parts, requests } = yield* streamOf([
        ...STREAM_BEGINNING,
        delta(" is answered."),
        chunk([{ index: 0, delta: {}, finish_reason: "length" }]),
        chunk([], { prompt_tokens: 12, completion_tokens: 6 }),
        "[DONE]"
      ])
      const collected = yield* Stream.runCollect(parts)
      expect(Chunk.toReadonlyArray(Chunk.map(collected, (part) => part.type))).toEqual([
        "response-metadata",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "finish"
      ])
      expect(Option.getOrThrow(Chunk.last(collected))).toMatchObject({
        reason: "length",
        usage: { inputTokens: 12, outputTokens: 6, totalTokens: 18 }
      })
      expect((yield* Queue.take(requests)).body).toEqual({
        model: "qwen3:8b",
        messages: [{ role: "user", content: "Hi" }],
        stream: true,
        stream_options: { include_usage: true }
      })
    })
  )

  it.scoped("a stream without its [DONE] was cut off, even when it ended politely", () =>
    Effect.gen(function* () {
      const { parts } = yield* streamOf(STREAM_BEGINNING)
      const error = yield* Effect.flip(Stream.runDrain(parts))
      expect(error).toMatchObject({ _tag: "MalformedOutput", description: "the stream ended before its [DONE]" })
    })
  )

  it.scoped("an event that is not JSON, and one that is an error, fail the stream", () =>
    Effect.gen(function* () {
      const malformed = yield* streamOf([...STREAM_BEGINNING, "{not json", "[DONE]"])
      expect((yield* Effect.flip(Stream.runDrain(malformed.parts)))._tag).toBe("MalformedOutput")
      const failed = yield* streamOf([...STREAM_BEGINNING, { error: { message: "out of memory" } }])
      expect((yield* Effect.flip(Stream.runDrain(failed.parts))).message).toContain("out of memory")
    })
  )

  it.scoped("asks for an object by its JSON schema", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, completion(`{"city":"Bern"}`)))
      const { value } = yield* LanguageModel.generateObject({
        prompt: "Which capital?",
        schema: Schema.Struct({ city: Schema.String }),
        objectName: "capital"
      }).pipe(MaxOutputTokens.limit(20), Effect.provide(OpenAiCompatibleRunner.layerModel(options(server.url))))
      expect(value).toEqual({ city: "Bern" })
      expect((yield* Queue.take(server.requests)).body).toMatchObject({
        max_tokens: 20,
        response_format: {
          type: "json_schema",
          json_schema: { name: "capital", schema: { type: "object", required: ["city"] } }
        }
      })
    })
  )

  it.scoped("refuses tools and files instead of leaving them out", () =>
    Effect.gen(function* () {
      const server = yield* Server.serve(Server.json(200, completion("never asked")))
      const provided = Effect.provide(OpenAiCompatibleRunner.layerModel(options(server.url)))
      const tool = Tool.make("clock", { success: Schema.String })
      const toolkit = yield* Effect.provide(
        Toolkit.make(tool),
        Toolkit.make(tool).toLayer({ clock: () => Effect.succeed("noon") })
      )
      const withTools = yield* LanguageModel.generateText({ prompt: "What time is it?", toolkit }).pipe(
        provided,
        Effect.flip
      )
      expect(withTools).toMatchObject({ _tag: "MalformedInput" })
      const withFile = yield* LanguageModel.generateText({
        prompt: [{ role: "user", content: [{ type: "file", mediaType: "image/png", data: "aGk=" }] }]
      }).pipe(provided, Effect.flip)
      expect(withFile).toMatchObject({ _tag: "MalformedInput" })
      expect(yield* Queue.size(server.requests)).toBe(0)
    })
  )
})
