import { Schema } from "effect"

const LONGEST_TIMER = 2 ** 31 - 1

/** An agent that is a program of its own: it connects to the WebSocket and takes the runs from there. */
export const OutsideAgent = Schema.Struct({
  /** Milliseconds within which it has to renew a task; then another gets it. Default: 30,000. */
  leaseMs: Schema.optionalWith(
    Schema.Number.pipe(
      Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
      Schema.between(1, LONGEST_TIMER, { message: ({ actual }) => `must be from 1 to ${LONGEST_TIMER}, got ${actual}` })
    ),
    { default: () => 30_000 }
  ),
  /** Whose tokens may be used to take its tasks. Default: the principal with the agent's name. */
  principals: Schema.optional(Schema.NonEmptyArray(Schema.NonEmptyString)),
  /** The model it answers with where it does not say, as `prices` has it. Default: nobody knows, and so neither what it costs. */
  model: Schema.optional(Schema.NonEmptyString)
})
export type OutsideAgent = typeof OutsideAgent.Type

/** By agent. */
export const OutsideConfig = Schema.Record({ key: Schema.NonEmptyString, value: OutsideAgent })
export type OutsideConfig = typeof OutsideConfig.Type
