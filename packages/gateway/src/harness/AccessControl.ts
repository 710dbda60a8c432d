import type { AccessControlConfig } from "../domain/Config.ts"
import * as Policy from "./Policy.ts"

/** Whether the configuration lets this sender in. A message without a sender is never let in by a list. */
export const isAllowed = (config: AccessControlConfig, sender: string | undefined): boolean => {
  const named = sender !== undefined && sender !== ""
  switch (config.accessPolicy) {
    case "open":
      return true
    case "blocklist":
      return named && !config.blockedSenders.includes(sender)
    case "allowlist":
      return (
        named &&
        !config.blockedSenders.includes(sender) &&
        (config.allowedSenders.includes(sender) || config.allowedSenders.includes("*"))
      )
  }
}

/** Priority 5. Keeps channel messages of senders without access from the agent, whatever their priority. */
export const make = (config: AccessControlConfig) =>
  Policy.make("AccessControl", {
    priority: 5,
    evaluate: (event, { approval }) => {
      if (event.source !== "channel" || approval !== null || isAllowed(config, event.sender)) return Policy.pass
      const reason = `sender ${event.sender === undefined ? "unknown" : `"${event.sender}"`} has no access`
      return config.unknownSenderAction === "escalate" ? Policy.escalate(reason) : Policy.skip(reason)
    }
  })
