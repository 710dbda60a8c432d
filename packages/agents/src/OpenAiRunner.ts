import type * as LanguageModel from "@effect/ai/LanguageModel"
import * as OpenAiClient from "@effect/ai-openai/OpenAiClient"
import * as OpenAiLanguageModel from "@effect/ai-openai/OpenAiLanguageModel"
import type { AgentRunner } from "@postilion/gateway"
import { Config, type ConfigError, type Duration, Effect, Layer, type Redacted } from "effect"
import * as ProviderHttp from "./internal/ProviderHttp.ts"
import * as LanguageModelRunner from "./LanguageModelRunner.ts"

export interface ModelOptions {
  /** A model's name, such as `gpt-5-mini`. */
  readonly model: string
  /** Default: the environment variable OPENAI_API_KEY. */
  readonly apiKey?: Redacted.Redacted | undefined
  /** With the version path. Default: `https://api.openai.com/v1`. */
  readonly apiUrl?: string | undefined
}

export interface Options extends ModelOptions {
  /** How long the whole answer may take. Default: 120 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * The model alone, on OpenAI's Responses API: for streaming, or an agent loop of your own. Nothing is stored at OpenAI
 * (`store: false`), because the gateway keeps the session itself. Its `AiError`s hold the request's headers, the key among
 * them: log their message, never the whole.
 */
export const layerModel = (options: ModelOptions): Layer.Layer<LanguageModel.LanguageModel, ConfigError.ConfigError> =>
  Effect.map(
    options.apiKey === undefined ? Config.redacted("OPENAI_API_KEY") : Effect.succeed(options.apiKey),
    (apiKey) =>
      OpenAiLanguageModel.layer({ model: options.model, config: { store: false } }).pipe(
        Layer.provide(OpenAiClient.layer({ apiKey, apiUrl: options.apiUrl, transformClient: ProviderHttp.strict })),
        Layer.provide(ProviderHttp.layer)
      )
  ).pipe(Layer.unwrapEffect)

/**
 * Runs agents on OpenAI's Responses API. For servers that speak `/v1/chat/completions`, use `OpenAiCompatibleRunner`.
 *
 * ```ts
 * import * as OpenAiRunner from "@postilion/agents/OpenAiRunner"
 *
 * const agents = OpenAiRunner.layer({ model: "gpt-5-mini" })
 * ```
 */
export const layer = (options: Options): Layer.Layer<AgentRunner, ConfigError.ConfigError> =>
  LanguageModelRunner.layer({
    provider: "OpenAI",
    model: options.model,
    credential: "OPENAI_API_KEY",
    limitOutput: (maxOutputTokens) => OpenAiLanguageModel.withConfigOverride({ max_output_tokens: maxOutputTokens }),
    timeout: options.timeout
  }).pipe(Layer.provide(layerModel(options)))
