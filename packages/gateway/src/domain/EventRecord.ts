import type { Delivery } from "./Delivery.ts"
import type { EventPriority, EventSource, EventState, GatewayEvent } from "./GatewayEvent.ts"
import type { Action, ShadowAnswer } from "./PolicyDecision.ts"
import type { PolicyState } from "./PolicyState.ts"
import type { Proposal } from "./Proposal.ts"
import { ENDED, type RunRecord } from "./Run.ts"

/** What one person said to an approval. */
export interface Vote {
  readonly by: string
  readonly answer: "approved" | "denied"
  readonly at: Date
}

/** Something that waits, or waited, for a person. */
export interface Approval {
  readonly id: string
  readonly eventId: string
  /** The run that was abandoned, where that is what is asked about: approved, the event has another. */
  readonly runId: string | undefined
  readonly state: "pending" | "approved" | "denied" | "expired"
  readonly policy: string
  readonly reason: string
  readonly requestedAt: Date
  readonly expiresAt: Date
  /** Who decided: with a quorum, everyone whose approval counted. */
  readonly decidedBy: string | undefined
  /** What would run, as it was when this was asked: nothing else runs on this approval. */
  readonly proposal: Proposal
  /** Of the proposal; see `digestOf`. An answer that names another one is refused. */
  readonly digest: string
  /** How many different persons must approve. */
  readonly approvers: number
  /** What was said so far, oldest first. */
  readonly votes: ReadonlyArray<Vote>
  /** The run it was used for, once. */
  readonly consumedBy: string | undefined
}

/** What a decision was made on. */
export interface Evidence {
  /** The policies that were asked before the one that decided, and passed. */
  readonly passed: ReadonlyArray<string>
  /** The policies after the one that decided. */
  readonly notAsked: ReadonlyArray<string>
  /** Whether the policy that decided failed. */
  readonly failed: boolean
  /** What shadow policies would have made of it. */
  readonly shadows: ReadonlyArray<ShadowAnswer>
  /** What all of them saw. */
  readonly state: Omit<PolicyState, "now" | "nextMorning"> & { readonly now: Date }
}

/** An event as it stands in the records: what came, what was decided, what came of it. */
export interface EventRecord {
  readonly event: GatewayEvent
  readonly state: EventState
  /** `undefined` while no policy has decided. */
  readonly decision: Action | undefined
  readonly policy: string | undefined
  readonly reason: string | undefined
  readonly evidence: Evidence | undefined
  /** The event this one was merged into, by a policy or by a run of its session that took it over. */
  readonly mergedInto: string | undefined
  readonly approval: Approval | undefined
  readonly run: RunRecord | undefined
  /** What carries the run's answer to the event's `replyTo`. */
  readonly delivery: Delivery | undefined
}

/** An event in a list: what came and what was decided, without what it carries. */
export interface EventSummary {
  readonly id: string
  readonly source: EventSource
  readonly agentId: string
  readonly priority: EventPriority
  /** What kind of event it is, as its adapter or its sender classified it. */
  readonly type: string | undefined
  readonly receivedAt: Date
  readonly traceId: string | undefined
  readonly sender: string | undefined
  readonly sessionKey: string | undefined
  /** The run that caused it. */
  readonly causedBy: string | undefined
  readonly state: EventState
  readonly decision: Action | undefined
  readonly policy: string | undefined
  readonly reason: string | undefined
  readonly mergedInto: string | undefined
  readonly runId: string | undefined
}

/** Whether nothing more will happen to it. */
export const isFinal = ({ run, state }: EventRecord): boolean =>
  state === "executed"
    ? run !== undefined && ENDED.includes(run.state)
    : state === "suppressed" || state === "merged" || state === "denied"
