import * as AiError from "@effect/ai/AiError"
import type * as LanguageModel from "@effect/ai/LanguageModel"
import type * as Prompt from "@effect/ai/Prompt"
import type * as Response from "@effect/ai/Response"
import * as Tool from "@effect/ai/Tool"
import { Effect, Schema } from "effect"

type Message = { readonly role: "system" | "user" | "assistant"; readonly content: string }

/** Everything of the request that comes from the prompt. */
export const toRequest = ({ prompt, responseFormat, tools }: LanguageModel.ProviderOptions) =>
  tools.length > 0
    ? Effect.fail(unsupported("tools"))
    : Effect.map(Effect.forEach(prompt.content, toMessage), (messages) => ({
        messages,
        response_format:
          responseFormat.type === "text"
            ? undefined
            : {
                type: "json_schema",
                json_schema: {
                  name: responseFormat.objectName,
                  schema: Tool.getJsonSchemaFromSchemaAst(responseFormat.schema.ast)
                }
              }
      }))

const toMessage = (message: Prompt.Message): Effect.Effect<Message, AiError.MalformedInput> => {
  switch (message.role) {
    case "system":
      return Effect.succeed({ role: "system", content: message.content })
    case "tool":
      return Effect.fail(unsupported("tools"))
    default: {
      const { content, role } = message
      return Effect.forEach(content, (part) =>
        part.type === "text" ? Effect.succeed(part.text) : Effect.fail(unsupported(`a ${part.type} part`))
      ).pipe(Effect.map((texts) => ({ role, content: texts.join("\n") })))
    }
  }
}

const Usage = Schema.NullishOr(Schema.Struct({ prompt_tokens: Schema.Number, completion_tokens: Schema.Number }))

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optional(Schema.NullishOr(schema))

/** Only what is read is decoded, because servers differ in all the rest. */
export const Completion = Schema.Struct({
  id: optional(Schema.String),
  model: optional(Schema.String),
  choices: Schema.NonEmptyArray(
    Schema.Struct({
      message: Schema.Struct({ content: optional(Schema.String) }),
      finish_reason: optional(Schema.String)
    })
  ),
  usage: Schema.optional(Usage)
})

export const toParts = ({
  choices: [choice],
  id,
  model,
  usage
}: typeof Completion.Type): Array<Response.PartEncoded> => [
  { type: "response-metadata", id: id ?? undefined, modelId: model ?? undefined },
  { type: "text", text: choice.message.content ?? "" },
  toFinish(choice.finish_reason, usage)
]

const FINISH_REASONS: ReadonlyMap<string, Response.FinishReason> = new Map([
  ["stop", "stop"],
  ["length", "length"],
  ["content_filter", "content-filter"],
  ["tool_calls", "tool-calls"]
])

const toFinish = (reason: string | null | undefined, usage: typeof Usage.Type): Response.FinishPartEncoded => ({
  type: "finish",
  reason: FINISH_REASONS.get(reason ?? "") ?? "unknown",
  usage: {
    inputTokens: usage?.prompt_tokens,
    outputTokens: usage?.completion_tokens,
    totalTokens: usage ? usage.prompt_tokens + usage.completion_tokens : undefined
  }
})

/** Ends a stream; one that ends without it was cut off. */
export const DONE = "[DONE]"

const decodeChunk = Schema.decode(
  Schema.parseJson(
    Schema.Struct({
      id: optional(Schema.String),
      model: optional(Schema.String),
      choices: Schema.optionalWith(
        Schema.Array(
          Schema.Struct({
            delta: optional(Schema.Struct({ content: optional(Schema.String) })),
            finish_reason: optional(Schema.String)
          })
        ),
        { default: () => [] }
      ),
      usage: Schema.optional(Usage),
      error: optional(Schema.Struct({ message: Schema.String }))
    })
  )
)

interface StreamState {
  readonly introduced: boolean
  readonly writing: boolean
  readonly finishReason: string | null | undefined
  readonly usage: typeof Usage.Type
}

export const NOTHING_YET: StreamState = { introduced: false, writing: false, finishReason: undefined, usage: undefined }

/** A completion has one text. */
const TEXT_ID = "text"

/** The parts that one event of the stream adds. */
export const toStreamParts = (state: StreamState, data: string) =>
  Effect.gen(function* () {
    const parts: Array<Response.StreamPartEncoded> = []
    if (data === DONE) {
      if (state.writing) parts.push({ type: "text-end", id: TEXT_ID })
      parts.push(toFinish(state.finishReason, state.usage))
      return [state, parts] as const
    }
    const chunk = yield* decodeChunk(data)
    if (chunk.error) {
      return yield* new AiError.UnknownError({
        module: "ChatCompletionsModel",
        method: "streamText",
        description: chunk.error.message
      })
    }
    const choice = chunk.choices[0]
    const delta = choice?.delta?.content ?? ""
    if (!state.introduced) {
      parts.push({ type: "response-metadata", id: chunk.id ?? undefined, modelId: chunk.model ?? undefined })
    }
    if (delta !== "") {
      if (!state.writing) parts.push({ type: "text-start", id: TEXT_ID })
      parts.push({ type: "text-delta", id: TEXT_ID, delta })
    }
    return [
      {
        introduced: true,
        writing: state.writing || delta !== "",
        finishReason: choice?.finish_reason ?? state.finishReason,
        usage: chunk.usage ?? state.usage
      },
      parts
    ] as const
  })

const unsupported = (what: string) =>
  new AiError.MalformedInput({
    module: "ChatCompletionsModel",
    method: "toRequest",
    description: `chat completions are asked with text only, not with ${what}`
  })
