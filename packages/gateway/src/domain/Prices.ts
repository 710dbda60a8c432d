import type { DateTime } from "effect"
import { fromNanos } from "./Budget.ts"
import { startOfDay } from "./Calendar.ts"
import type { GatewayConfig, Price } from "./Config.ts"
import type { Usage } from "./Run.ts"

/** What so much of a model costs at an instant, in US dollars; `null` when it has no price then. */
export type CostOf = (model: string, usage: Usage, at: number) => number | null

/**
 * Reads the price table. Providers answer with dated names (`model-20250929`) where they were asked for `model`: the longest
 * prefix counts. A price is in effect from midnight of its day in `zone`, until the next one is.
 */
export const make = (prices: GatewayConfig["prices"], zone: DateTime.TimeZone): CostOf => {
  const table = Object.entries(prices)
    .sort(([a], [b]) => b.length - a.length)
    .map(([name, listed]) => {
      if (!("length" in listed)) return { name, since: [{ from: Number.NEGATIVE_INFINITY, price: listed as Price }] }
      const since = listed.map((price) => ({ from: startOfDay(price.from, zone) ?? Number.NaN, price }))
      return { name, since: since.sort((a, b) => b.from - a.from) }
    })
  return (model, { inputTokens, outputTokens }, at) => {
    const listed = table.find(({ name }) => model === name || model.startsWith(`${name}-`))
    const price = listed?.since.find(({ from }) => from <= at)?.price
    if (price === undefined) return null
    // Dollars per million tokens are thousandths of billionths per token.
    return fromNanos(Math.round((inputTokens * price.inputPerMillion + outputTokens * price.outputPerMillion) * 1_000))
  }
}
