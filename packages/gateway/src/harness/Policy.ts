import { Effect } from "effect"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { PolicyDecision } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"

/**
 * Judges events. Lower priorities are asked first; the first that answers other than `null` decides. What it answers
 * must follow from its two arguments alone, so that a decision can be explained and replayed.
 */
export interface SchedulingPolicy {
  readonly _tag: string
  readonly priority: number
  readonly evaluate: (event: GatewayEvent, state: PolicyState) => Effect.Effect<PolicyDecision | null, unknown>
}

/** The answer of a policy that leaves the event to the next one. */
export const pass = null

/** Hands the event to its agent, with this task. */
export const execute = (taskDescription: string): PolicyDecision => ({ action: "execute", taskDescription })
/** Keeps the event and judges it again at `until`, or when what policies see has changed. */
export const queue = (options: { readonly reason: string; readonly until?: Date }): PolicyDecision => ({
  action: "queue",
  ...options
})
/** Records the event and drops it. */
export const skip = (reason: string): PolicyDecision => ({ action: "skip", reason })
/** Holds the event with the others of this key; one run handles them all. `windowMs` defaults to the configured window. */
export const merge = (options: { readonly mergeKey: string; readonly windowMs?: number }): PolicyDecision => ({
  action: "merge",
  ...options
})
/** Keeps the event until a person has answered. */
export const escalate = (reason: string): PolicyDecision => ({ action: "escalate", reason })

const passed = Effect.succeed(null)

/** A policy from a function that answers at once. */
export const make = (
  name: string,
  options: {
    readonly priority: number
    readonly evaluate: (event: GatewayEvent, state: PolicyState) => PolicyDecision | null
  }
): SchedulingPolicy => ({
  _tag: name,
  priority: options.priority,
  evaluate: (event, state) => {
    const decision = options.evaluate(event, state)
    return decision === null ? passed : Effect.succeed(decision)
  }
})
