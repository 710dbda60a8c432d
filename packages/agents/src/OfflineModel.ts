import * as AiError from "@effect/ai/AiError"
import * as LanguageModel from "@effect/ai/LanguageModel"
import type * as Prompt from "@effect/ai/Prompt"
import type * as Response from "@effect/ai/Response"
import { Effect, Layer, Stream } from "effect"
import { MaxOutputTokens } from "./MaxOutputTokens.ts"

export interface Options {
  /** How long an answer takes, in milliseconds. Default: 0. */
  readonly delayMs?: number | undefined
}

/** As it names itself in every response. */
export const MODEL = "offline-model"

/**
 * A `LanguageModel` without a network and without intelligence: the same prompt always gets the same answer, which says
 * what it is, repeats the first line it was asked and says how many tokens that prompt was. For trying the gateway out,
 * demonstrations and load tests. It respects `MaxOutputTokens` and fails with `MalformedInput` when asked for an object.
 */
export const layer = (options: Options = {}): Layer.Layer<LanguageModel.LanguageModel> =>
  Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      generateText: (providerOptions) =>
        Effect.map(
          answer(providerOptions, options),
          ({ finish, metadata, text }): Array<Response.PartEncoded> => [metadata, { type: "text", text }, finish]
        ),
      streamText: (providerOptions) =>
        Effect.map(answer(providerOptions, options), ({ finish, metadata, text }) =>
          Stream.fromIterable<Response.StreamPartEncoded>([
            metadata,
            { type: "text-start", id: TEXT_ID },
            ...toWords(text).map((delta) => ({ type: "text-delta" as const, id: TEXT_ID, delta })),
            { type: "text-end", id: TEXT_ID },
            finish
          ])
        ).pipe(Stream.unwrap)
    })
  )

/** The offline model's tokens: four characters (Unicode code points) each, the last one begun counts. */
export const countTokens = (text: string): number => Math.ceil(Array.from(text).length / CHARACTERS_PER_TOKEN)

const CHARACTERS_PER_TOKEN = 4

const QUOTED_CHARACTERS = 200

const TEXT_ID = "text"

const answer = ({ prompt, responseFormat }: LanguageModel.ProviderOptions, { delayMs = 0 }: Options) =>
  Effect.gen(function* () {
    if (responseFormat.type === "json") {
      return yield* new AiError.MalformedInput({
        module: "OfflineModel",
        method: "answer",
        description: "the offline model answers with text, not with objects"
      })
    }
    const maxOutputTokens = (yield* MaxOutputTokens) ?? Number.POSITIVE_INFINITY
    yield* Effect.sleep(delayMs)
    const texts = prompt.content.map(toText)
    const inputTokens = countTokens(texts.join(""))
    const question = take((texts.at(-1) ?? "").trim().split("\n", 1)[0] ?? "", QUOTED_CHARACTERS)
    const whole = `[offline model, no network, no intelligence] I was asked: ${question} (${inputTokens} input tokens)`
    const text = take(whole, maxOutputTokens * CHARACTERS_PER_TOKEN)
    const outputTokens = countTokens(text)
    return {
      text,
      metadata: { type: "response-metadata", modelId: MODEL },
      finish: {
        type: "finish",
        reason: text === whole ? "stop" : "length",
        usage: { inputTokens, outputTokens, totalTokens: inputTokens + outputTokens }
      }
    } as const
  })

const toText = (message: Prompt.Message): string =>
  typeof message.content === "string"
    ? message.content
    : message.content.map((part) => (part.type === "text" ? part.text : "")).join("\n")

const take = (text: string, characters: number): string => Array.from(text).slice(0, characters).join("")

const toWords = (text: string): ReadonlyArray<string> => text.match(/\S+\s*/g) ?? []
