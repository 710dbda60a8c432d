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
  /** What shadow policies would have made of it; absent where there are none. */
  readonly shadows?: ReadonlyArray<ShadowAnswer> | undefined
}

/** What a shadow policy said about an event, in its place in the chain, and what would have come of it. */
export interface ShadowAnswer {
  /** `_tag` of the shadow policy. */
  readonly policy: string
  /** `late`: it, or a policy that is only asked because of it, cannot answer at once, and is not waited for. */
  readonly answer: "passed" | "answered" | "failed" | "not-asked" | "late"
  /** What the whole chain would have decided; `undefined` when it is late. */
  readonly decision: Action | undefined
  /** The policy that would have decided, or was waited for in vain. */
  readonly by: string
  readonly reason: string | undefined
  /** Whether the same would have come of it; `undefined` when it is late. */
  readonly agrees: boolean | undefined
}
