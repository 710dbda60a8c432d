import { parseWallTime } from "../../domain/ConfigFields.ts"
import { EventPriority } from "../../domain/GatewayEvent.ts"
import type { QuietHoursConfig } from "../../domain/PolicyConfig.ts"
import * as Policy from "../Policy.ts"
import { openingOf } from "./BusinessHours.ts"

const rank = (priority: EventPriority): number => EventPriority.literals.indexOf(priority)

/**
 * Priority 16. In these hours only events of `minPriority` and above have a run: others wait for the end of the hours, and
 * heartbeats are skipped.
 */
export const make = ({ minPriority, ...hours }: QuietHoursConfig) => {
  const to = parseWallTime(hours.to) ?? 1440
  return Policy.make("QuietHours", {
    priority: 16,
    evaluate: (event, { now }) => {
      if (rank(event.priority) >= rank(minPriority) || !openingOf(hours, now).open) return Policy.pass
      const reason = `quiet hours (${hours.from} to ${hours.to}) for what is less urgent than ${minPriority}`
      if (event.source === "heartbeat") return Policy.skip(reason)
      return Policy.queue({ reason, until: now.at(now.minuteOfDay < to ? 0 : 1, to) })
    }
  })
}
