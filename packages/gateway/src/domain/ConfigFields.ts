import { Schema } from "effect"
import { parseZone } from "./Calendar.ts"

export const Positive = Schema.Number.pipe(
  Schema.finite({ message: ({ actual }) => `must be a number, got ${actual}` }),
  Schema.positive({ message: ({ actual }) => `must be greater than 0, got ${actual}` })
)
export const PositiveInt = Schema.Number.pipe(
  Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
  Schema.positive({ message: ({ actual }) => `must be greater than 0, got ${actual}` })
)
export const Count = Schema.Number.pipe(
  Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
  Schema.nonNegative({ message: ({ actual }) => `must be 0 or more, got ${actual}` })
)
export const withDefault = <A, I>(schema: Schema.Schema<A, I>, value: NoInfer<A>) =>
  Schema.optionalWith(schema, { default: () => value })

/** What is not shown anywhere. */
export const Secret = Schema.Union(Schema.RedactedFromSelf(Schema.String), Schema.Redacted(Schema.String))

/** An IANA zone name such as `Europe/Berlin`. */
export const Timezone = Schema.String.pipe(
  Schema.filter(
    (name) => parseZone(name) !== undefined || `"${name}" is not an IANA time zone; try "UTC" or "Europe/Berlin"`
  )
)

/** `HH:MM`, 00:00 to 24:00. */
export const WallTime = Schema.String.pipe(
  Schema.filter((text) => parseWallTime(text) !== undefined || `"${text}" is not a time of day; write it as HH:MM`)
)

/** Minutes since midnight of `HH:MM`. */
export const parseWallTime = (text: string): number | undefined => {
  const match = /^(\d\d):(\d\d)$/.exec(text)
  if (match === null) return undefined
  const minutes = Number(match[1]) * 60 + Number(match[2])
  return minutes <= 1440 && Number(match[2]) < 60 ? minutes : undefined
}

/** A number, or none at all: that must be written out. */
export const Limit = <A extends number>(schema: Schema.Schema<A, number>) =>
  Schema.Union(schema, Schema.Literal("unlimited")).annotations({
    message: ({ actual }) => ({
      message: `must be a number or "unlimited", got ${JSON.stringify(actual)}`,
      override: typeof actual !== "number"
    })
  })

/** US dollars. */
export const Money = Schema.Number.pipe(
  Schema.finite({ message: ({ actual }) => `must be a number, got ${actual}` }),
  Schema.nonNegative({ message: ({ actual }) => `must be 0 or more, got ${actual}` })
)
