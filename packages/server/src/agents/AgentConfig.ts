import { AgentConfig as GatewayAgentConfig } from "@postilion/gateway/domain/Config"
import { between, LONGEST_TIMER, optional, Secret, withDefault } from "@postilion/gateway/domain/ConfigFields"
import type { ConfigProblem } from "@postilion/gateway/domain/ConfigProblem"
import { didYouMean } from "@postilion/gateway/domain/Nearest"
import { Redacted, Schema } from "effect"

/** Who serves models, and what they need. */
export const PROVIDERS = {
  anthropic: { keyFrom: "ANTHROPIC_API_KEY", baseUrl: undefined },
  openai: { keyFrom: "OPENAI_API_KEY", baseUrl: undefined },
  ollama: { keyFrom: undefined, baseUrl: "http://localhost:11434/v1" },
  compatible: { keyFrom: undefined, baseUrl: undefined }
} as const
export type Provider = keyof typeof PROVIDERS
const NAMES = Object.keys(PROVIDERS)

const MODEL = new RegExp(`^(?:offline|(${NAMES.join("|")})/(.+))$`)

const Model = Schema.String.pipe(
  Schema.filter(
    (model) =>
      MODEL.test(model) ||
      `must be "offline", or a provider and its model: ${NAMES.map((name) => `${name}/…`).join(", ")}${didYouMean(model.replace(/\/.*$/s, ""), NAMES)}`
  )
)
const BaseUrl = Schema.String.pipe(
  Schema.filter((url) => (URL.canParse(url) && /^https?:/.test(url)) || "must be an http or https URL")
)

export const AgentConfig = Schema.Struct({
  ...GatewayAgentConfig.fields,
  model: optional(
    Model,
    "What answers: `anthropic/<model>`, `openai/<model>`, `ollama/<model>`, `compatible/<model>` on any server that speaks OpenAI's chat completions, or `offline`, which is no model and says so. Default: the program's own `AgentRunner`; `offline` where a file alone starts the gateway."
  ),
  baseUrl: optional(
    BaseUrl,
    "Where the model is served, with the version path for all but Anthropic. Default: the provider's own; `http://localhost:11434/v1` for `ollama`; needed for `compatible`."
  ),
  apiKey: optional(
    Secret,
    "What the provider knows its customer by. Default: the environment variable `ANTHROPIC_API_KEY` or `OPENAI_API_KEY`; none for `ollama` and `compatible`."
  ),
  modelTimeoutMs: withDefault(between(1, LONGEST_TIMER), 120_000, "Milliseconds the model may take for an answer.")
})
export type AgentConfig = typeof AgentConfig.Type

/** A model as it is written, taken apart; `undefined` of `offline`. */
export const modelOf = (model: string): { readonly provider: Provider; readonly name: string } | undefined => {
  const [, provider, name = ""] = MODEL.exec(model) ?? []
  return provider === undefined ? undefined : { provider: provider as Provider, name }
}

/** What is said of a model whose provider wants a key, and gets none. */
export const needsKey = (model: string): string => {
  const { provider = "compatible" } = modelOf(model) ?? {}
  return `${model} needs a key; set ${PROVIDERS[provider].keyFrom ?? "one"} in the environment, or \`apiKey\``
}

/** What is wrong with an agent that its keys alone do not show. Without `env`, it is not asked whether a key is in it. */
export const agentProblems = (
  agents: Readonly<Record<string, AgentConfig>>,
  env?: Readonly<Record<string, string | undefined>>
): ReadonlyArray<ConfigProblem> =>
  Object.entries(agents).flatMap(([id, { apiKey, baseUrl, model }]) => {
    const problem = (key: string, message: string) => [{ path: ["agents", id, key], message }]
    const served = model === undefined ? undefined : modelOf(model)
    if (served === undefined) {
      const without = model ?? "an agent without a `model`"
      if (baseUrl !== undefined) return problem("baseUrl", `has no effect: ${without} is not served anywhere`)
      return apiKey === undefined ? [] : problem("apiKey", `has no effect: ${without} needs none`)
    }
    const { keyFrom } = PROVIDERS[served.provider]
    if (served.provider === "compatible" && baseUrl === undefined) {
      return problem("baseUrl", `missing; ${model} needs the address of the server that has it`)
    }
    if (apiKey !== undefined && Redacted.value(apiKey) === "") return problem("apiKey", "must not be empty")
    if (env === undefined || keyFrom === undefined || apiKey !== undefined || (env[keyFrom] ?? "") !== "") return []
    return problem("model", needsKey(model ?? ""))
  })
