import type { LoopGuardConfig } from "../../domain/PolicyConfig.ts"
import * as Policy from "../Policy.ts"

/**
 * Priority 8. Stops what runs cause without end, by the chain of causes and not by what is said: an event with more than
 * `maxDepth` runs between it and the event its chain began with waits for a person; past `maxPerMinute` events of one chain
 * in a minute, the rest are skipped. Heartbeats are skipped in both cases, since another comes anyway. No priority bypasses
 * it.
 */
export const make = ({ maxDepth, maxPerMinute }: LoopGuardConfig) =>
  Policy.make("LoopGuard", {
    priority: 8,
    evaluate: (event, { approval, chain }) => {
      if (chain.depth === 0 || approval !== null) return Policy.pass
      const root = event.chain?.root ?? "unknown"
      if (maxPerMinute !== "unlimited" && chain.count > maxPerMinute) {
        return Policy.skip(`loop guard: event ${root} has led to more than ${maxPerMinute} events in a minute`)
      }
      if (maxDepth === "unlimited" || chain.depth <= maxDepth) return Policy.pass
      const reason = `loop guard: ${chain.depth} runs lie between this and event ${root}, which led to it; at most ${maxDepth} may`
      return event.source === "heartbeat" ? Policy.skip(reason) : Policy.escalate(reason)
    }
  })
