import { between, LONGEST_TIMER, optional, withDefault } from "@postilion/gateway/domain/ConfigFields"
import { type ConfigProblem, noAgent } from "@postilion/gateway/domain/ConfigProblem"
import { Schema } from "effect"

/** An agent that is a program of its own: it connects to the WebSocket and takes the runs from there. */
export const OutsideAgent = Schema.Struct({
  leaseMs: withDefault(
    between(1, LONGEST_TIMER),
    30_000,
    "Milliseconds within which it has to renew a task; then another gets it."
  ),
  principals: optional(
    Schema.NonEmptyArray(Schema.NonEmptyString),
    "Whose tokens may be used to take its tasks. Default: the principal with the agent's name."
  ),
  model: optional(
    Schema.NonEmptyString,
    "The model it answers with where it does not say, as `prices` has it. Default: nobody knows, and so neither what it costs."
  )
})
export type OutsideAgent = typeof OutsideAgent.Type

/** By agent. */
export const OutsideConfig = Schema.Record({ key: Schema.NonEmptyString, value: OutsideAgent })
export type OutsideConfig = typeof OutsideConfig.Type

/** Agents that are outside, and that there are not. */
export const outsideProblems = ({
  agents,
  outside
}: {
  readonly agents: Readonly<Record<string, unknown>>
  readonly outside: OutsideConfig
}): ReadonlyArray<ConfigProblem> =>
  Object.keys(outside)
    .filter((id) => !Object.hasOwn(agents, id))
    .map((id) => noAgent(["outside", id], id, Object.keys(agents)))
