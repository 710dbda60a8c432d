import { AgentRunner, GatewayConfigError } from "@postilion/gateway"
import type { AgentRunnerShape } from "@postilion/gateway/runs/AgentRunner"
import { Context, Effect, Layer, type Redacted, type Scope } from "effect"
import { type AgentConfig, modelOf, PROVIDERS } from "./AgentConfig.ts"

/** What the gateway is to know of an agent. */
export const withoutModel = ({
  apiKey: _,
  baseUrl: _url,
  model: _model,
  modelTimeoutMs: _timeout,
  ...agent
}: AgentConfig) => agent

interface Served {
  readonly model: string
  readonly apiKey: Redacted.Redacted | undefined
  readonly apiUrl: string | undefined
  readonly timeout: number
}

// Imported when they are needed: each costs up to a second.
const RUNNERS = {
  anthropic: (options: Served) =>
    Effect.map(
      Effect.promise(() => import("@postilion/agents/AnthropicRunner")),
      ({ layer }) => layer(options)
    ),
  openai: (options: Served) =>
    Effect.map(
      Effect.promise(() => import("@postilion/agents/OpenAiRunner")),
      ({ layer }) => layer(options)
    ),
  compatible: ({ apiUrl = "", ...options }: Served) =>
    Effect.map(
      Effect.promise(() => import("@postilion/agents/OpenAiCompatibleRunner")),
      ({ layer }) => layer({ ...options, baseUrl: apiUrl })
    ),
  offline: Effect.map(
    Effect.promise(() => import("@postilion/agents")),
    ({ OfflineRunner }) => OfflineRunner.layer()
  )
}

const build = (
  id: string,
  { apiKey, baseUrl, model = "", modelTimeoutMs: timeout }: AgentConfig
): Effect.Effect<AgentRunnerShape, GatewayConfigError, Scope.Scope> =>
  Effect.gen(function* () {
    const served = modelOf(model)
    if (served === undefined) return yield* RUNNERS.offline.pipe(Effect.flatMap(Layer.build))
    const { name, provider } = served
    const options = { model: name, apiKey, apiUrl: baseUrl ?? PROVIDERS[provider].baseUrl, timeout }
    const layer = yield* RUNNERS[provider === "ollama" ? "compatible" : provider](options)
    return yield* Layer.build(layer)
  }).pipe(
    Effect.map(Context.get(AgentRunner)),
    Effect.mapError(
      (cause) =>
        new GatewayConfigError({
          path: `agents.${id}.model`,
          message: `configuration: agents.${id}.model: ${model} needs a key: ${cause.message}`,
          cause
        })
    )
  )

/** Runs agents on no model; their answers say so. */
export const offline: Layer.Layer<AgentRunner> = Layer.unwrapEffect(RUNNERS.offline)

/**
 * Runs each agent on the model it is configured with, and those without one on the `AgentRunner` of the surroundings. Fails
 * with a `GatewayConfigError` (path `agents.<id>.model`) where a provider's key is missing.
 */
export const layer = (
  agents: Readonly<Record<string, AgentConfig>>
): Layer.Layer<AgentRunner, GatewayConfigError, AgentRunner> =>
  Layer.scoped(
    AgentRunner,
    Effect.gen(function* () {
      const fallback = yield* AgentRunner
      const runners = new Map<string, AgentRunnerShape>()
      for (const [id, agent] of Object.entries(agents)) {
        if (agent.model !== undefined) runners.set(id, yield* build(id, agent))
      }
      const runnerOf = (id: string): AgentRunnerShape => runners.get(id) ?? fallback
      return AgentRunner.of({
        run: (task) => runnerOf(task.agent.id).run(task),
        estimate: (task, historyCharacters) => runnerOf(task.agent.id).estimate(task, historyCharacters),
        model: (id) => runnerOf(id).model?.(id) ?? "unknown"
      })
    })
  )
