import type * as LanguageModel from "@effect/ai/LanguageModel"
import * as AnthropicClient from "@effect/ai-anthropic/AnthropicClient"
import * as AnthropicLanguageModel from "@effect/ai-anthropic/AnthropicLanguageModel"
import type { AgentRunner } from "@postilion/gateway"
import { Config, type ConfigError, type Duration, Effect, Layer, type Redacted } from "effect"
import * as ProviderHttp from "./internal/ProviderHttp.ts"
import * as LanguageModelRunner from "./LanguageModelRunner.ts"

export interface ModelOptions {
  /** A model's name or alias, such as `claude-sonnet-4-5`. */
  readonly model: string
  /** Default: the environment variable ANTHROPIC_API_KEY. */
  readonly apiKey?: Redacted.Redacted | undefined
  /** Without the version path. Default: `https://api.anthropic.com`. */
  readonly apiUrl?: string | undefined
}

export interface Options extends ModelOptions {
  /** How long the whole answer may take. Default: 120 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * The model alone, on Anthropic's Messages API: for streaming, or an agent loop of your own. Its `AiError`s hold the
 * request's headers, the key among them: log their message, never the whole.
 */
export const layerModel = (options: ModelOptions): Layer.Layer<LanguageModel.LanguageModel, ConfigError.ConfigError> =>
  Effect.map(
    options.apiKey === undefined ? Config.redacted("ANTHROPIC_API_KEY") : Effect.succeed(options.apiKey),
    (apiKey) =>
      AnthropicLanguageModel.layer({ model: options.model }).pipe(
        Layer.provide(AnthropicClient.layer({ apiKey, apiUrl: options.apiUrl, transformClient: ProviderHttp.strict })),
        Layer.provide(ProviderHttp.layer)
      )
  ).pipe(Layer.unwrapEffect)

/**
 * Runs agents on Anthropic's Messages API.
 *
 * ```ts
 * import * as AnthropicRunner from "@postilion/agents/AnthropicRunner"
 *
 * const agents = AnthropicRunner.layer({ model: "claude-sonnet-4-5" })
 * ```
 */
export const layer = (options: Options): Layer.Layer<AgentRunner, ConfigError.ConfigError> =>
  LanguageModelRunner.layer({
    provider: "Anthropic",
    model: options.model,
    credential: "ANTHROPIC_API_KEY",
    limitOutput: (maxOutputTokens) => AnthropicLanguageModel.withConfigOverride({ max_tokens: maxOutputTokens }),
    timeout: options.timeout
  }).pipe(Layer.provide(layerModel(options)))
