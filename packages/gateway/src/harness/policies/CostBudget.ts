import { type Budget, fits } from "../../domain/Budget.ts"
import * as Policy from "../Policy.ts"

const PER = { hour: "hourly", day: "daily", month: "monthly" } as const

/** An amount as a person reads it: dollars to the cent where that says it all. */
const show = (unit: Budget["unit"], amount: number): string =>
  unit === "tokens" ? String(amount) : `$${Number.isInteger(amount * 100) ? amount.toFixed(2) : amount}`

const reasonOf = ({ estimate, limit, reserved, scope, unit, unpriced, used, window }: Budget): string => {
  const whose = scope === "*" ? "" : ` of agent "${scope}"`
  const name = `${PER[window]} ${unit === "tokens" ? "token" : "dollar"} budget${whose}`
  if (unpriced !== undefined) {
    return `${name}: what a run of model "${unpriced}" costs is not known; set its price in prices, or policies.unknownModel`
  }
  const held = reserved > 0 ? ` and ${show(unit, reserved)} reserved` : ""
  return `${name}: ${show(unit, used)} used${held} of ${show(unit, limit ?? 0)}, this one may need ${show(unit, estimate)}`
}

/**
 * Priority 20. Skips events whose run might not fit into what is left of one of the budgets it would count in, counting what
 * runs under way may still use. `critical` events pass.
 */
export const make = () =>
  Policy.make("CostBudget", {
    priority: 20,
    evaluate: (event, { budgets }) => {
      if (event.priority === "critical") return Policy.pass
      for (const budget of budgets) if (!fits(budget)) return Policy.skip(reasonOf(budget))
      return Policy.pass
    }
  })
