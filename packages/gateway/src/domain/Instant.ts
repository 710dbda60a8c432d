import { Schema } from "effect"

/** A point in time, written as ISO 8601. */
export const Instant = Schema.Date.annotations({
  identifier: "Instant",
  description: "ISO 8601, in UTC.",
  jsonSchema: { type: "string", format: "date-time", description: "ISO 8601, in UTC." }
})
