import { type Check, group, keyOf } from "../Books.ts"

/** Accepted means kept, a duplicate is the first one, a refusal is a refusal, and what is stopped refuses. */
export const checkPromises: Check = ({ rows, rules, witness }, records) => {
  const found: Array<string> = [...witness.remarks]
  const byId = new Map(rows.events.map((event) => [event.id, event]))
  const byKey = group(rows.events, (event) => keyOf(event) ?? null)
  for (const [key, eventId] of witness.accepted) {
    const event = byId.get(eventId)
    if (event === undefined) found.push(`${key} was acknowledged as ${eventId} and is not there`)
    else if (keyOf(event) !== key) found.push(`${key} was acknowledged as ${eventId}, which is ${keyOf(event)}`)
  }
  for (const { eventId, key } of witness.repeated) {
    const [first] = byKey.get(key) ?? []
    if (first?.id !== eventId) found.push(`${key}, sent again, was answered with ${eventId} and is ${first?.id}`)
  }
  for (const [key, events] of byKey) {
    if (key !== "" && events.length > 1) found.push(`${key} is there ${events.length} times`)
  }
  for (const key of witness.refused) if (byKey.has(key)) found.push(`${key} was refused and is there`)
  const full = records.filter(({ data, kind }) => kind === "session.overflowed" && data.outcome === "refused").length
  if (full < witness.full) found.push(`${witness.full} were refused since their session was full; recorded: ${full}`)
  const crons = group(rows.events, ({ dedupe_key, source }) => (source === "cron" ? dedupe_key : null))
  for (const [instant, events] of crons) {
    if (instant !== "" && events.length > 1) found.push(`${instant} fired ${events.length} times`)
  }
  if (rules.whenStopped === "refuse") {
    for (const { answeredAt, key, sentAt } of witness.taken) {
      if (witness.stops.some(({ from, to }) => sentAt > from && answeredAt < to)) {
        found.push(`${key} was accepted while everything was stopped`)
      }
    }
  }
  return found
}
