import { AgentRunner, GatewayConfigError } from "@postilion/gateway"
import type { AgentRunnerShape } from "@postilion/gateway/runs/AgentRunner"
import { Context, Effect, Layer, Record, Redacted, Scope } from "effect"
import { type AgentConfig, modelOf, needsKey, PROVIDERS } from "./AgentConfig.ts"

const withoutModel = ({ apiKey: _, baseUrl: _url, model: _model, modelTimeoutMs: _timeout, ...agent }: AgentConfig) =>
  agent

/** What the gateway is to know of agents. */
export const withoutModels = (agents: Agents) => Record.map(agents, withoutModel)

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
    Effect.mapError((cause) => {
      const path = `agents.${id}.model`
      return new GatewayConfigError({ path, message: `configuration: ${path}: ${needsKey(model)}`, cause })
    })
  )

/** Runs agents on no model; their answers say so. */
export const offline: Layer.Layer<AgentRunner> = Layer.unwrapEffect(RUNNERS.offline)

/** Which model runs which agent. */
export class AgentModels extends Context.Tag("@postilion/server/AgentModels")<
  AgentModels,
  {
    /** Prepares to run these agents in place of those there are. What is prepared is done by calling it. */
    readonly reconfigure: (agents: Agents) => Effect.Effect<() => void, GatewayConfigError>
  }
>() {}

type Agents = Readonly<Record<string, AgentConfig>>

/** What a runner is made of: agents that share it share the runner. With the key, so not to be shown. */
const madeOf = ({ apiKey, baseUrl, model, modelTimeoutMs }: AgentConfig): string =>
  JSON.stringify([model, baseUrl, modelTimeoutMs, apiKey === undefined ? null : Redacted.value(apiKey)])

/**
 * Runs each agent on the model it is configured with, and those without one on the `AgentRunner` of the surroundings. Fails
 * with a `GatewayConfigError` (path `agents.<id>.model`) where a provider's key is missing.
 */
export const layer = (agents: Agents): Layer.Layer<AgentRunner | AgentModels, GatewayConfigError, AgentRunner> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const fallback = yield* AgentRunner
      const scope = yield* Effect.scope
      let runners: ReadonlyMap<string, AgentRunnerShape> = new Map()
      let made: ReadonlyMap<string, AgentRunnerShape> = new Map()
      const reconfigure = (agents: Agents) =>
        Effect.gen(function* () {
          const next = new Map<string, AgentRunnerShape>()
          const built = new Map<string, AgentRunnerShape>()
          for (const [id, agent] of Object.entries(agents)) {
            if (agent.model === undefined) continue
            const key = madeOf(agent)
            // What a runner holds is closed with the gateway: one that is not used any more may still be running something.
            const runner = built.get(key) ?? made.get(key) ?? (yield* Scope.extend(build(id, agent), scope))
            built.set(key, runner)
            next.set(id, runner)
          }
          return () => {
            runners = next
            made = built
          }
        })
      const begin = yield* reconfigure(agents)
      begin()
      const runnerOf = (id: string): AgentRunnerShape => runners.get(id) ?? fallback
      const runner = AgentRunner.of({
        run: (task) => runnerOf(task.agent.id).run(task),
        estimate: (task, historyCharacters) => runnerOf(task.agent.id).estimate(task, historyCharacters),
        model: (id) => runnerOf(id).model?.(id) ?? "unknown"
      })
      return Context.make(AgentRunner, runner).pipe(Context.add(AgentModels, { reconfigure }))
    })
  )
