import { randomBytes } from "node:crypto"
import { OfflineRunner } from "@postilion/agents"
import { type AgentRunner, Policy } from "@postilion/gateway"
import type { PostilionConfigInput } from "@postilion/server"
import type { ConfigError, Layer } from "effect"

/** What this start of the demo signs and asks with. Made anew each time; nothing here is worth stealing. */
export interface Credentials {
  readonly github: string
  readonly reports: string
  readonly token: string
}

const secret = (): string => randomBytes(16).toString("hex")
export const makeCredentials = (): Credentials => ({ github: secret(), reports: secret(), token: secret() })

/** Who holds the demo's token. */
export const OPERATOR = "you"

/** Milliseconds the pull requests of one repository are held for each other. */
const MERGE_WINDOW = 2_000
const HEARTBEAT = 3_000

export interface OpsOptions {
  readonly credentials: Credentials
  readonly port: number
  readonly storage: string
}

/** An agent that keeps an eye on deployments, and an analyst whose reports cost more than a day may. */
export const config = ({ credentials, port, storage }: OpsOptions): PostilionConfigInput => ({
  storage,
  port,
  tokens: { [OPERATOR]: credentials.token },
  timezone: "Europe/Berlin",
  agents: {
    ops: { instructions: "You keep our deployments healthy. Answer in two sentences.", maxOutputTokens: 300 },
    analyst: { instructions: "You write long reports.", maxOutputTokens: 60_000 }
  },
  heartbeat: { agentId: "ops", intervalMs: HEARTBEAT, maxConsecutiveSkips: 40, instruction: "Check for pending work." },
  crons: [
    { name: "standup", schedule: "0 9 * * MON-FRI", instruction: "Summarize the night.", agentId: "ops" },
    { name: "health", schedule: "*/15 * * * *", instruction: "Check deployment health.", agentId: "ops" }
  ],
  webhooks: [
    { path: "/github", adapter: "github", secret: credentials.github, agentId: "ops" },
    { path: "/reports", adapter: "generic", secret: credentials.reports, agentId: "analyst" },
    { path: "/notes", adapter: "generic", unsigned: true, agentId: "ops" }
  ],
  accessControl: { allowedSenders: [OPERATOR] },
  // It is there to be killed, as often as you like.
  limits: { maxUncleanStarts: "unlimited" },
  policies: {
    dailyTokenBudget: 50_000,
    maxActionsPerHour: 60,
    mergeWindowMs: MERGE_WINDOW,
    requireApprovalFor: ["deploy"]
  },
  prices: {
    "offline-model": { inputPerMillion: 0, outputPerMillion: 0 },
    "claude-sonnet-4-5": { inputPerMillion: 3, outputPerMillion: 15 },
    "gpt-5-mini": { inputPerMillion: 0.25, outputPerMillion: 2 }
  }
})

/** A policy of our own, added while the gateway runs: stars are welcome, but they are no work. */
export const starsAreNoWork = Policy.make("StarsAreNoWork", {
  priority: 12,
  evaluate: (event) =>
    String(event.metadata.type).startsWith("star.") ? Policy.skip("a star is welcome, but it is no work") : Policy.pass
})

export interface Model {
  /** For people. */
  readonly name: string
  readonly layer: Layer.Layer<AgentRunner, ConfigError.ConfigError>
}

/** The model that answers: a provider's where its key is set, else the offline one. Providers are imported when needed. */
export const chooseModel = async (env: NodeJS.ProcessEnv): Promise<Model> => {
  if (env.ANTHROPIC_API_KEY !== undefined) {
    const { layer } = await import("@postilion/agents/AnthropicRunner")
    return {
      name: "Anthropic claude-sonnet-4-5 (ANTHROPIC_API_KEY is set)",
      layer: layer({ model: "claude-sonnet-4-5" })
    }
  }
  if (env.OPENAI_API_KEY !== undefined) {
    const { layer } = await import("@postilion/agents/OpenAiRunner")
    return { name: "OpenAI gpt-5-mini (OPENAI_API_KEY is set)", layer: layer({ model: "gpt-5-mini" }) }
  }
  return {
    name: "the offline model (no network, no intelligence; set ANTHROPIC_API_KEY or OPENAI_API_KEY for a real one)",
    layer: OfflineRunner.layer({ delayMs: 200 })
  }
}
