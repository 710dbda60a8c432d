import * as Policy from "../Policy.ts"

/**
 * Priority 30. Once the hour's actions are used up, events wait for the next hour; heartbeats are skipped, since another
 * comes anyway. `critical` events pass.
 */
export const make = () =>
  Policy.make("RateLimit", {
    priority: 30,
    evaluate: (event, { rate }) => {
      if (event.priority === "critical" || rate.limit === null || rate.count < rate.limit) return Policy.pass
      const reason = `rate limit: ${rate.count} of ${rate.limit} actions this hour`
      return event.source === "heartbeat" ? Policy.skip(reason) : Policy.queue({ reason, until: rate.resetsAt })
    }
  })
