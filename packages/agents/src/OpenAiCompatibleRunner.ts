import type * as LanguageModel from "@effect/ai/LanguageModel"
import type { AgentRunner } from "@postilion/gateway"
import { type Duration, Layer } from "effect"
import * as ChatCompletionsModel from "./ChatCompletionsModel.ts"
import * as ProviderHttp from "./internal/ProviderHttp.ts"
import * as LanguageModelRunner from "./LanguageModelRunner.ts"
import * as MaxOutputTokens from "./MaxOutputTokens.ts"

export interface Options extends ChatCompletionsModel.Options {
  /** How long the whole answer may take. Default: 120 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * The model alone: for streaming, or an agent loop of your own. Its `AiError`s hold the request's headers, the key among
 * them: log their message, never the whole.
 */
export const layerModel = (options: ChatCompletionsModel.Options): Layer.Layer<LanguageModel.LanguageModel> =>
  Layer.provide(ChatCompletionsModel.layer(options), ProviderHttp.layer)

/**
 * Runs agents on a server that speaks OpenAI's chat completions: Ollama, vLLM, llama.cpp, LM Studio, LiteLLM.
 *
 * ```ts
 * import * as OpenAiCompatibleRunner from "@postilion/agents/OpenAiCompatibleRunner"
 *
 * const agents = OpenAiCompatibleRunner.layer({ model: "qwen3:8b", baseUrl: "http://localhost:11434/v1" })
 * ```
 */
export const layer = (options: Options): Layer.Layer<AgentRunner> =>
  LanguageModelRunner.layer({
    provider: "the OpenAI-compatible server",
    model: options.model,
    credential: "the option apiKey",
    limitOutput: MaxOutputTokens.limit,
    timeout: options.timeout
  }).pipe(Layer.provide(layerModel(options)))
