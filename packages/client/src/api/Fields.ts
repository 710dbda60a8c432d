import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Instant } from "@postilion/gateway/domain/Instant"
import { Context, Schema } from "effect"

/** What is done by an operation, by the name the table of scopes has for it; an operation without one needs no token. */
export class Action extends Context.Tag("@postilion/client/Action")<Action, string>() {}

/** That a request may do without a body. */
export class BodyIsOptional extends Context.Tag("@postilion/client/BodyIsOptional")<BodyIsOptional, true>() {}

export const described = <A, I>(schema: Schema.Schema<A, I>, description: string) => schema.annotations({ description })
export const text = (description: string) => described(Schema.String, description)
export const number = (description: string) => described(Schema.Number, description)
export const maybe = <A, I>(schema: Schema.Schema<A, I>) => Schema.optional(schema)
export const MaybeText = Schema.optional(Schema.String)
export const MaybeInstant = Schema.optional(Instant)
export const Members = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** A name in the path, written as `encodeURIComponent` does. What is no such thing is nobody's name, and stays as it is. */
export const name = (description: string) =>
  Schema.transform(Schema.String.annotations({ description }), Schema.String, {
    strict: true,
    decode: (part) => {
      try {
        return decodeURIComponent(part)
      } catch {
        return part
      }
    },
    encode: encodeURIComponent
  })

/** A whole number of a query. */
export const whole = (least: number, most: number, description: string) =>
  Schema.optional(
    Schema.NumberFromString.pipe(Schema.int(), Schema.between(least, most)).annotations({
      description,
      message: () => ({ message: `must be a whole number from ${least} to ${most}`, override: true }),
      jsonSchema: { type: "integer", minimum: least, maximum: most, description }
    })
  )
/** How many a page has at most. */
export const limit = (most: number, standard: number) => whole(1, most, `At most so many. Default: ${standard}.`)
export const instant = (description: string) =>
  Schema.optional(
    Schema.Date.annotations({
      description,
      message: () => ({ message: "must be a time such as 2026-01-31T09:00:00Z", override: true }),
      jsonSchema: { type: "string", format: "date-time", description }
    })
  )
/** What a page ends with. */
export const next = Schema.NullOr(Schema.String).annotations({
  description:
    "The cursor of the page that follows; null: there is none. A page may be short, or empty, and be followed."
})
/** One value of JSON a line. */
export const Lines = HttpApiSchema.Text({ contentType: "application/jsonl" })
export { Instant }
