import { Schema } from "effect"

/** One of a few words. What it must be is said whole, where a union would name its first member only. */
export const OneOf = <const L extends readonly [string, ...ReadonlyArray<string>]>(...words: L) =>
  Schema.Literal(...words).annotations({
    message: ({ actual }) => ({
      message: `must be one of ${words.map((word) => `"${word}"`).join(", ")}, got ${JSON.stringify(actual)}`,
      override: true
    })
  })
