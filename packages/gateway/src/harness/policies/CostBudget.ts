import * as Policy from "../Policy.ts"

/**
 * Priority 20. Skips events whose run might not fit into what is left of the day's tokens, counting what runs under way may
 * still use. `critical` events pass.
 */
export const make = () =>
  Policy.make("CostBudget", {
    priority: 20,
    evaluate: (event, { budget }) => {
      if (event.priority === "critical" || budget.limit === null) return Policy.pass
      if (budget.used + budget.reserved + budget.estimate <= budget.limit) return Policy.pass
      const held = budget.reserved > 0 ? ` and ${budget.reserved} reserved` : ""
      return Policy.skip(
        `daily token budget: ${budget.used} used${held} of ${budget.limit}, this one may need ${budget.estimate}`
      )
    }
  })
