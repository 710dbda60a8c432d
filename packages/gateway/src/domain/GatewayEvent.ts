import { Schema } from "effect"
import type { ReplyRoute } from "./Delivery.ts"

/** Where an event came from. */
export const EventSource = Schema.Literal("heartbeat", "cron", "webhook", "channel", "a2a", "state-change")
export type EventSource = typeof EventSource.Type

/** How much an event matters. `critical` bypasses cost and rate limits, never approvals or the kill switch. */
export const EventPriority = Schema.Literal("low", "normal", "high", "critical")
export type EventPriority = typeof EventPriority.Type

/**
 * - `accepted`: kept, not yet judged. `deferred`: judged `queue`. `merging`: leads an open merge window.
 * - `awaiting-approval`: judged `escalate`, or its run was abandoned.
 * - `executed`, `suppressed`, `merged` (into another event), `denied`: the decision is final.
 */
export const EventState = Schema.Literal(
  "accepted",
  "deferred",
  "merging",
  "awaiting-approval",
  "executed",
  "suppressed",
  "merged",
  "denied"
)
export type EventState = typeof EventState.Type

/** The envelope every stimulus is normalised to before a policy sees it. */
export interface GatewayEvent {
  readonly id: string
  readonly source: EventSource
  readonly timestamp: Date
  readonly agentId?: string
  /** JSON: what a program submits is held to it at the door. */
  readonly payload: unknown
  readonly priority: EventPriority
  readonly metadata: Record<string, unknown>
  readonly traceId?: string
  /** Who sent it, as the transport proved it; never read from the payload. */
  readonly sender?: string
  /** The conversation it belongs to, `channel:chat_id` for chat. Events of one session run one after the other. */
  readonly sessionKey?: string
  /** The run that caused it; none: it came from outside. */
  readonly causedBy?: string
  /**
   * Of an event a run caused: the event its chain of causes began with, how many runs lie between, and how many events of
   * the chain came in the minute until it, itself included.
   */
  readonly chain?: { readonly root: string; readonly depth: number; readonly count: number }
  /** Where the answer goes, as it was when the event came: what comes later does not change it. Default: nowhere. */
  readonly replyTo?: ReplyRoute
}

/** What a source hands to the road: an event before it has an id. */
export interface RawInput {
  readonly source: EventSource
  readonly payload: unknown
  /** Default: the gateway's first agent. */
  readonly agentId?: string | undefined
  /** Default: `normal`. */
  readonly priority?: EventPriority | undefined
  readonly metadata?: Record<string, unknown> | undefined
  /** When it happened. Default: now. */
  readonly timestamp?: Date | undefined
  readonly traceId?: string | undefined
  readonly sender?: string | undefined
  readonly sessionKey?: string | undefined
  /**
   * The run (`RunTask.runId`, or a bus event's `runId`) this is a consequence of. Say it of whatever a run or its end makes
   * happen: chains of causes are what the loop guard stops.
   */
  readonly causedBy?: string | undefined
  /** Where the answer goes. Default: nowhere. */
  readonly replyTo?: ReplyRoute | undefined
  /** A second input with the same key is answered with the first one's event id and not judged again. */
  readonly idempotencyKey?: string | undefined
}
