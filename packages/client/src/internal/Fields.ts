import { Schema } from "effect"

export const described = <A, I>(schema: Schema.Schema<A, I>, description: string) => schema.annotations({ description })
export const text = (description: string) => described(Schema.String, description)
export const whole = (description: string) =>
  Schema.NonNegativeInt.annotations({
    description,
    message: () => ({ message: "must be a whole number, 0 or more", override: true })
  })
/** A whole number in these bounds. */
export const count = (least: number, most: number, description: string) =>
  Schema.Int.pipe(
    Schema.between(least, most, { description, message: () => `must be a whole number from ${least} to ${most}` })
  )

export const LONGEST_NAME = 256
export const Name = Schema.NonEmptyString.pipe(
  Schema.maxLength(LONGEST_NAME, { message: () => `must have ${LONGEST_NAME} characters at most` })
)
export const named = (description: string) => described(Name, description)
