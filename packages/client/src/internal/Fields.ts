import { Schema } from "effect"

export const described = <A, I>(schema: Schema.Schema<A, I>, description: string) => schema.annotations({ description })
export const text = (description: string) => described(Schema.String, description)
export const whole = (description: string) => described(Schema.NonNegativeInt, description)

export const LONGEST_NAME = 256
export const Name = Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_NAME))
export const named = (description: string) => described(Name, description)
