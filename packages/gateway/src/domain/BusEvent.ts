import type { Budget } from "./Budget.ts"
import type { ReplyRoute } from "./Delivery.ts"
import type { EventPriority, EventSource } from "./GatewayEvent.ts"
import { didYouMean } from "./Nearest.ts"
import type { Action } from "./PolicyDecision.ts"
import type { SwitchMode } from "./Switch.ts"

interface Base<Tag extends string> {
  readonly _tag: Tag
  /** Unix milliseconds. */
  readonly at: number
}
interface OfEvent<Tag extends string> extends Base<Tag> {
  readonly eventId: string
  readonly agentId: string
}

/** An event entered the road. */
export interface GatewayEventReceived extends OfEvent<"GatewayEventReceived"> {
  readonly source: EventSource
  readonly priority: EventPriority
  readonly type: string | undefined
}
/** An input was recognised as one that is already recorded. */
export interface DuplicateReceived extends OfEvent<"DuplicateReceived"> {
  readonly source: EventSource
}
/** A policy, or the default, decided. */
export interface PolicyDecisionMade extends OfEvent<"PolicyDecisionMade"> {
  readonly source: EventSource
  readonly type: string | undefined
  readonly decision: Action
  readonly policy: string
  readonly reason: string | undefined
  readonly passed: ReadonlyArray<string>
}
/** The agent is called. */
export interface ProactiveActionInitiated extends OfEvent<"ProactiveActionInitiated"> {
  readonly source: EventSource
  readonly runId: string
  readonly attempt: number
  readonly taskDescription: string
}
/** The agent's run ended. */
export interface ProactiveActionCompleted extends OfEvent<"ProactiveActionCompleted"> {
  readonly source: EventSource
  readonly runId: string
  readonly success: boolean
  readonly tokensUsed: number
  readonly costUsd: number | undefined
  readonly durationMs: number
  readonly text: string | undefined
  readonly error: string | undefined
  /** The session whose history it was added to. */
  readonly sessionKey?: string | undefined
  /** The run that caused its event. */
  readonly causedBy?: string | undefined
}
/** A policy or a person kept an event from the agent. */
export interface ProactiveActionSuppressed extends OfEvent<"ProactiveActionSuppressed"> {
  readonly source: EventSource
  readonly policy: string
  readonly reason: string
}
/** A heartbeat tick was skipped. */
export interface HeartbeatSkipped extends OfEvent<"HeartbeatSkipped"> {
  readonly reason: string
  readonly consecutiveSkips: number
}
/** A merge window closed, or a run of their session took them over: these events are one from here on. */
export interface EventsMerged extends OfEvent<"EventsMerged"> {
  readonly source: EventSource
  readonly mergeKey: string
  readonly count: number
  readonly eventIds: ReadonlyArray<string>
}
/** What is used and held of a budget has come to `policies.budgetWarnAt` of it, for the first time in its window. */
export interface BudgetWarning extends Base<"BudgetWarning"> {
  readonly budget: Budget
}
/** A budget refused an event, for the first time in its window. */
export interface BudgetExhausted extends Base<"BudgetExhausted"> {
  readonly budget: Budget
  /** Of the day's tokens over all agents, whichever budget it was. */
  readonly tokensUsed: number
  /** The day's tokens over all agents; `null`: unlimited. */
  readonly dailyBudget: number | null
}
/** More was waiting in a session than may: an event was refused, or the run that had waited longest was dropped. */
export interface SessionOverflowed extends Base<"SessionOverflowed"> {
  readonly agentId: string
  readonly sessionKey: string
  /** Runs that wait in it. */
  readonly waiting: number
  readonly outcome: "refused" | "dropped"
  /** The event whose run was dropped; one that was refused has no id. */
  readonly eventId: string | undefined
}
/** An event waits for a person. */
export interface ApprovalRequested extends OfEvent<"ApprovalRequested"> {
  readonly approvalId: string
  /** The run that was abandoned, where that is what is asked about. */
  readonly runId: string | undefined
  readonly reason: string
  readonly expiresAt: number
}
/** A person, or the clock, answered. */
export interface ApprovalDecided extends OfEvent<"ApprovalDecided"> {
  readonly approvalId: string
  readonly outcome: "approved" | "denied" | "expired"
  readonly by: string
}
/** Too many runs of a job failed in a row: it is not due any more until it is enabled, and a person is asked. */
export interface JobDisabled extends OfEvent<"JobDisabled"> {
  readonly jobId: string
  readonly name: string
  readonly failures: number
  /** What the last of them failed of. */
  readonly error: string
}
/** The kill switch changed. */
export interface SwitchChanged extends Base<"SwitchChanged"> {
  readonly scope: string
  readonly mode: SwitchMode
  readonly by: string
}

interface OfDelivery<Tag extends string> extends OfEvent<Tag> {
  readonly deliveryId: string
  readonly runId: string
  readonly to: ReplyRoute
}
/** A run has ended, and its answer is kept to be sent. */
export interface DeliveryPrepared extends OfDelivery<"DeliveryPrepared"> {}
/** The channel is called. */
export interface DeliveryStarted extends OfDelivery<"DeliveryStarted"> {
  readonly attempt: number
}
/** The platform took it. */
export interface DeliverySent extends OfDelivery<"DeliverySent"> {
  readonly attempt: number
  readonly reference: string | undefined
}
/** It was not sent, and is tried again at `dueAt`. */
export interface DeliveryPostponed extends OfDelivery<"DeliveryPostponed"> {
  readonly attempt: number
  readonly error: string
  readonly dueAt: number
}
/** It may have been sent or not: it waits for a person. */
export interface DeliveryUnknown extends OfDelivery<"DeliveryUnknown"> {
  readonly attempt: number
  readonly error: string
}
/** It was not sent and is not tried again by itself: a dead letter. */
export interface DeliveryFailed extends OfDelivery<"DeliveryFailed"> {
  readonly attempt: number
  readonly error: string
}
/** A person has it tried again. */
export interface DeliveryReplayed extends OfDelivery<"DeliveryReplayed"> {
  readonly by: string
}
/** A person gave it up. */
export interface DeliveryDropped extends OfDelivery<"DeliveryDropped"> {
  readonly by: string
}

interface OfDeadLetter<Tag extends string> extends Base<Tag> {
  readonly deadLetterId: string
  readonly channel: string
  /** Whose subscription, and what it is called. */
  readonly principal: string
  readonly subscription: string
  /** The message's number in its channel. */
  readonly cursor: number
}
/** A subscriber of a push channel did not acknowledge a message: it is not told again by itself. */
export interface PushMessageDead extends OfDeadLetter<"PushMessageDead"> {
  readonly attempts: number
  readonly error: string
}
/** A person has a dead letter told again. */
export interface PushMessageReplayed extends OfDeadLetter<"PushMessageReplayed"> {
  readonly by: string
}
/** A person gave a dead letter up. */
export interface PushMessageDropped extends OfDeadLetter<"PushMessageDropped"> {
  readonly by: string
}

/** Everything the gateway tells, published after the commit that made it true. */
export type BusEvent =
  | GatewayEventReceived
  | DuplicateReceived
  | PolicyDecisionMade
  | ProactiveActionInitiated
  | ProactiveActionCompleted
  | ProactiveActionSuppressed
  | HeartbeatSkipped
  | EventsMerged
  | BudgetWarning
  | BudgetExhausted
  | SessionOverflowed
  | ApprovalRequested
  | ApprovalDecided
  | JobDisabled
  | SwitchChanged
  | DeliveryPrepared
  | DeliveryStarted
  | DeliverySent
  | DeliveryPostponed
  | DeliveryUnknown
  | DeliveryFailed
  | DeliveryReplayed
  | DeliveryDropped
  | PushMessageDead
  | PushMessageReplayed
  | PushMessageDropped

export type BusTag = BusEvent["_tag"]

const TAGS = {
  GatewayEventReceived: true,
  DuplicateReceived: true,
  PolicyDecisionMade: true,
  ProactiveActionInitiated: true,
  ProactiveActionCompleted: true,
  ProactiveActionSuppressed: true,
  HeartbeatSkipped: true,
  EventsMerged: true,
  BudgetWarning: true,
  BudgetExhausted: true,
  SessionOverflowed: true,
  ApprovalRequested: true,
  ApprovalDecided: true,
  JobDisabled: true,
  SwitchChanged: true,
  DeliveryPrepared: true,
  DeliveryStarted: true,
  DeliverySent: true,
  DeliveryPostponed: true,
  DeliveryUnknown: true,
  DeliveryFailed: true,
  DeliveryReplayed: true,
  DeliveryDropped: true,
  PushMessageDead: true,
  PushMessageReplayed: true,
  PushMessageDropped: true
} satisfies Readonly<Record<BusTag, true>>
const BUS_TAGS = Object.keys(TAGS)

/** Why one of these is no tag, if one is none: whoever listened for it would hear nothing, ever. */
export const tagProblem = (tags: ReadonlyArray<string>): string | undefined => {
  const unknown = tags.find((tag) => !Object.hasOwn(TAGS, tag))
  if (unknown === undefined) return undefined
  const near = didYouMean(unknown, BUS_TAGS)
  return `nothing that the gateway tells is called "${unknown}"${near === "" ? `; there are: ${BUS_TAGS.join(", ")}` : near}`
}

/** In place of what a subscriber was too slow to receive. */
export interface Lagged {
  readonly _tag: "Lagged"
  /** How many events were dropped, oldest first. */
  readonly missed: number
}
