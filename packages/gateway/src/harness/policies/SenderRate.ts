import type { PolicyConfig } from "../../domain/PolicyConfig.ts"
import * as Policy from "../Policy.ts"

/**
 * Priority 25. Past so many events of one sender in a minute, the rest of them are skipped: one that floods the gateway does
 * not use up what the others may do. `critical` events pass, and what a person has approved.
 */
export const make = (maxPerMinute: PolicyConfig["maxPerSenderPerMinute"]) =>
  Policy.make("SenderRate", {
    priority: 25,
    evaluate: (event, { approval, sender }) => {
      if (maxPerMinute === "unlimited" || sender.count <= maxPerMinute) return Policy.pass
      if (event.priority === "critical" || approval !== null) return Policy.pass
      return Policy.skip(
        `sender ${event.sender}: ${sender.count} events in a minute, at most ${maxPerMinute} are handled`
      )
    }
  })
