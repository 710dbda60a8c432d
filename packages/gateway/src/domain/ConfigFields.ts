import { Schema } from "effect"
import { parseZone } from "./Calendar.ts"

/** Milliseconds; longer timers fire at once. */
export const LONGEST_TIMER = 2 ** 31 - 1

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
/** A whole number in these bounds. */
export const between = (least: number, most: number) =>
  Schema.Number.pipe(
    Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
    Schema.between(least, most, { message: ({ actual }) => `must be from ${least} to ${most}, got ${actual}` })
  )

// What `about` says of a key is all there is to say of it: the reference, editors and `--help` read it from here.

/** A key that must be there. */
export const required = <A, I>(schema: Schema.Schema<A, I>, about: string) =>
  Schema.propertySignature(schema).annotations({ description: about })
/** A key that may be left out; `about` says what holds then. */
export const optional = <A, I>(schema: Schema.Schema<A, I>, about: string) =>
  Schema.optional(schema).annotations({ description: about })
export const withDefault = <A, I>(schema: Schema.Schema<A, I>, value: NoInfer<A>, about: string) =>
  Schema.optionalWith(schema, { default: () => value }).annotations({ description: about })
/** Keys that all may be left out, under one key. */
export const section = <A, I>(schema: Schema.Schema<A, I>, about: string) =>
  Schema.optionalWith(schema, { default: () => Schema.decodeUnknownSync(schema)({}) }).annotations({
    description: about
  })

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
