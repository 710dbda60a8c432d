import type { Moment } from "../../domain/Calendar.ts"
import { parseWallTime } from "../../domain/ConfigFields.ts"
import type { HoursConfig } from "../../domain/PolicyConfig.ts"
import * as Policy from "../Policy.ts"

/** Whether `hours` are on at `now`, and if not, when they next begin. */
export const openingOf = (
  hours: HoursConfig,
  now: Moment
): { readonly open: true } | { readonly open: false; readonly next: Date } => {
  const from = parseWallTime(hours.from) ?? 0
  const to = parseWallTime(hours.to) ?? 1440
  const minute = now.minuteOfDay
  const on = (days: number) => hours.days.includes(now.weekdayIn(days))
  if (from < to ? on(0) && minute >= from && minute < to : (on(0) && minute >= from) || (on(-1) && minute < to)) {
    return { open: true }
  }
  for (let days = minute < from ? 0 : 1; days <= 7; days++)
    if (on(days)) return { open: false, next: now.at(days, from) }
  return { open: false, next: now.at(7, from) }
}

/** Priority 15. Outside these hours events wait for the next opening and heartbeats are skipped. `critical` events pass. */
export const make = (hours: HoursConfig) =>
  Policy.make("BusinessHours", {
    priority: 15,
    evaluate: (event, { now }) => {
      if (event.priority === "critical") return Policy.pass
      const opening = openingOf(hours, now)
      if (opening.open) return Policy.pass
      const reason = `outside business hours (${hours.from} to ${hours.to})`
      return event.source === "heartbeat" ? Policy.skip(reason) : Policy.queue({ reason, until: opening.next })
    }
  })
