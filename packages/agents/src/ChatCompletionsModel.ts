import * as AiError from "@effect/ai/AiError"
import * as LanguageModel from "@effect/ai/LanguageModel"
import * as Sse from "@effect/experimental/Sse"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { Effect, identity, Layer, type ParseResult, type Redacted, Stream } from "effect"
import * as ChatCompletions from "./internal/ChatCompletions.ts"
import * as ProviderHttp from "./internal/ProviderHttp.ts"
import { MaxOutputTokens } from "./MaxOutputTokens.ts"

export interface Options {
  /** The model's name as the server knows it. */
  readonly model: string
  /** With the version path, such as `http://localhost:11434/v1`. */
  readonly baseUrl: string
  /** Sent as a bearer token. Default: none, as local servers want none. */
  readonly apiKey?: Redacted.Redacted | undefined
}

/**
 * A `LanguageModel` on `POST {baseUrl}/chat/completions`, the one API every OpenAI-compatible server speaks;
 * `@effect/ai-openai` speaks only the newer Responses API. Text and JSON objects; tools and files are refused with
 * `MalformedInput`. The length of an answer follows `MaxOutputTokens`.
 *
 * @see https://platform.openai.com/docs/api-reference/chat
 */
export const make = (options: Options): Effect.Effect<LanguageModel.Service, never, HttpClient.HttpClient> =>
  Effect.flatMap(HttpClient.HttpClient, (httpClient) => {
    const { apiKey, baseUrl, model } = options
    const client = httpClient.pipe(
      HttpClient.mapRequest(HttpClientRequest.prependUrl(baseUrl)),
      apiKey === undefined ? identity : HttpClient.mapRequest(HttpClientRequest.bearerToken(apiKey)),
      ProviderHttp.strict
    )

    const post = (providerOptions: LanguageModel.ProviderOptions, extra: object) =>
      Effect.gen(function* () {
        const maxOutputTokens = yield* MaxOutputTokens
        const body = {
          model,
          ...(yield* ChatCompletions.toRequest(providerOptions)),
          max_tokens: maxOutputTokens,
          ...extra
        }
        return yield* client.execute(
          HttpClientRequest.post("/chat/completions").pipe(
            HttpClientRequest.acceptJson,
            HttpClientRequest.bodyUnsafeJson(body)
          )
        )
      })

    return LanguageModel.make({
      generateText: (providerOptions) =>
        post(providerOptions, {}).pipe(
          Effect.flatMap(HttpClientResponse.schemaBodyJson(ChatCompletions.Completion)),
          Effect.map(ChatCompletions.toParts),
          Effect.catchTags(toAiErrors("generateText"))
        ),
      streamText: (providerOptions) =>
        post(providerOptions, { stream: true, stream_options: { include_usage: true } }).pipe(
          Effect.map(({ stream }) => stream),
          Stream.unwrap,
          Stream.decodeText(),
          Stream.pipeThroughChannel(Sse.makeChannel()),
          Stream.map(({ data }) => data),
          Stream.concat(Stream.fail(cutOff)),
          Stream.takeUntil((data) => data === ChatCompletions.DONE),
          Stream.mapAccumEffect(ChatCompletions.NOTHING_YET, ChatCompletions.toStreamParts),
          Stream.flattenIterables,
          Stream.catchTags(toAiErrors("streamText"))
        )
    })
  })

export const layer = (options: Options): Layer.Layer<LanguageModel.LanguageModel, never, HttpClient.HttpClient> =>
  Layer.effect(LanguageModel.LanguageModel, make(options))

const MODULE = "ChatCompletionsModel"

const cutOff = new AiError.MalformedOutput({
  module: MODULE,
  method: "streamText",
  description: "the stream ended before its [DONE]"
})

const toAiErrors = (method: string) => ({
  RequestError: (error: HttpClientError.RequestError) =>
    AiError.HttpRequestError.fromRequestError({ module: MODULE, method, error }),
  ResponseError: (error: HttpClientError.ResponseError) =>
    AiError.HttpResponseError.fromResponseError({ module: MODULE, method, error }),
  ParseError: (error: ParseResult.ParseError) =>
    AiError.MalformedOutput.fromParseError({ module: MODULE, method, error })
})
