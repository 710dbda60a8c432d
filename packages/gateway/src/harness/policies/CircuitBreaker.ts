import type { CircuitBreakerConfig } from "../../domain/PolicyConfig.ts"
import * as Policy from "../Policy.ts"

/**
 * Priority 18. An agent whose last `maxFailures` runs failed is given a rest of `cooldownMs`: its events wait, its heartbeats
 * are skipped. Then one event is let through, and the others wait for another rest, until a run has not failed. `critical`
 * events pass. A rest that lies in the future, since the clock was set back, is none.
 */
export const make = ({ cooldownMs, maxFailures }: CircuitBreakerConfig) =>
  Policy.make("CircuitBreaker", {
    priority: 18,
    evaluate: (event, { agent, now }) => {
      if (maxFailures === "unlimited" || agent.lastAt === null || agent.failures < maxFailures) return Policy.pass
      const last = agent.lastAt.getTime()
      if (event.priority === "critical" || Math.abs(now.epochMillis - last) >= cooldownMs) return Policy.pass
      const reason = `circuit breaker: the last ${agent.failures} runs of agent "${event.agentId}" failed`
      return event.source === "heartbeat"
        ? Policy.skip(reason)
        : Policy.queue({ reason, until: new Date(last + cooldownMs) })
    }
  })
