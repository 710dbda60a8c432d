import { DateTime, Effect } from "effect"
import type { Amount } from "../domain/Budget.ts"
import { parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import { make as makePrices } from "../domain/Prices.ts"
import type { Usage } from "../domain/Run.ts"
import { AgentRunner } from "./AgentRunner.ts"

/** What a run is charged, and the model that is charged for; `null` where nobody knows. */
export type Charge = Amount & { readonly model: string | null }

/** What so much of a model comes to at the prices of an instant. `answered`: the model; default: the one the agent is run with. */
export const make = (config: GatewayConfig) =>
  Effect.map(AgentRunner, (runner) => {
    const costOf = makePrices(config.prices, parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0))
    return (agentId: string, usage: Usage, at: number, answered?: string): Charge => {
      const tokens = usage.inputTokens + usage.outputTokens
      if (tokens === 0) return { tokens, usd: 0, model: answered ?? null }
      const model = answered ?? runner.model?.(agentId) ?? null
      return { tokens, usd: model === null ? null : costOf(model, usage, at), model }
    }
  })
