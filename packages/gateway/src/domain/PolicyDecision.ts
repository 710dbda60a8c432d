/** What the gateway does with an event. */
export type PolicyDecision =
  /** Hand it to the agent, with this as the task. */
  | { readonly action: "execute"; readonly taskDescription: string }
  /**
   * Keep it and judge it again: at `until`, or, without one, whenever what policies see has changed (a run ended, a
   * window rolled over, the policies changed) and at the latest after a minute.
   */
  | { readonly action: "queue"; readonly reason: string; readonly until?: Date }
  /** Record it and drop it. */
  | { readonly action: "skip"; readonly reason: string }
  /** Hold it with the others of the same key; when the window closes, one run handles them all. */
  | { readonly action: "merge"; readonly mergeKey: string; readonly windowMs?: number }
  /** Keep it until a person approves or denies it. */
  | { readonly action: "escalate"; readonly reason: string }

export type Action = PolicyDecision["action"]

/** A decision, who made it, and who was asked before and passed. */
export interface Judgement {
  readonly decision: PolicyDecision
  /** `_tag` of the policy that decided, or `default` when all passed. */
  readonly policy: string
  /** `_tag`s of the policies that passed, in the order they were asked. */
  readonly passed: ReadonlyArray<string>
  /** `_tag`s of the policies that were not asked any more. */
  readonly notAsked: ReadonlyArray<string>
  /** The policy that decided failed, or answered with what is no decision: that is why the event waits for a person. */
  readonly failed: boolean
}
