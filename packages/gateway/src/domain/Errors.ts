import { Data } from "effect"
import type { Usage } from "./Run.ts"

/**
 * The reasons a gateway refuses or fails, with whether the same call may succeed later.
 *
 * - `overloaded`, `draining`, `stopped`: not now; try again after `retryAfterSeconds`.
 * - `storage`: the step could not be written; nothing of it happened.
 * - `invalid-input`: the input cannot become an event.
 * - `not-found`, `conflict`: what was named does not exist, or has already ended another way.
 */
export type GatewayErrorReason =
  | "overloaded"
  | "draining"
  | "stopped"
  | "storage"
  | "invalid-input"
  | "not-found"
  | "conflict"

const RETRYABLE: ReadonlySet<GatewayErrorReason> = new Set(["overloaded", "draining", "stopped", "storage"])

/** The gateway could not do what it was asked. */
export class GatewayError extends Data.TaggedError("GatewayError")<{
  readonly reason: GatewayErrorReason
  readonly message: string
  readonly cause?: unknown
}> {
  get retryable(): boolean {
    return RETRYABLE.has(this.reason)
  }
  /** Seconds after which a retry makes sense, for `Retry-After`. */
  get retryAfterSeconds(): number {
    return this.reason === "overloaded" || this.reason === "storage" ? 1 : 10
  }
}

/** A place in a configuration file, and what is wrong there. Lines and columns count from 1. */
export interface PlacedProblem {
  readonly path: string
  readonly message: string
  readonly file: string
  readonly line: number
  readonly column: number
}

/** A configuration value is wrong. `path` names it, `message` says what it must be. */
export class GatewayConfigError extends Data.TaggedError("GatewayConfigError")<{
  readonly path: string
  readonly message: string
  /** All that is wrong, where the configuration is a file. `path` is that of the first. */
  readonly problems?: ReadonlyArray<PlacedProblem>
  readonly cause?: unknown
}> {
  readonly retryable = false
}

/** A part of the gateway did not start. What had started before it was stopped again, in reverse. */
export class GatewayStartError extends Data.TaggedError("GatewayStartError")<{
  readonly phase: "bus" | "services" | "channels"
  readonly component: string
  /** What had started, in the order it was stopped. */
  readonly undone: ReadonlyArray<string>
  readonly cause: { readonly message: string; readonly retryable?: boolean }
}> {
  override get message(): string {
    const { cause, component, phase, undone } = this
    const stopped = undone.length === 0 ? "nothing had started before it" : `stopped again: ${undone.join(", ")}`
    return `${component} did not start (phase ${phase}): ${cause.message}; ${stopped}`
  }
  get retryable(): boolean {
    return this.cause.retryable ?? false
  }
}

/** A webhook's signature is missing or does not match its body (401), or its timestamp is outside the window. */
export class WebhookValidationError extends Data.TaggedError("WebhookValidationError")<{
  readonly adapter: string
  readonly path: string
  readonly message: string
}> {
  readonly retryable = false
}

/** A webhook's body could not be turned into an event. `status` is what the sender is answered. */
export class WebhookTransformError extends Data.TaggedError("WebhookTransformError")<{
  readonly adapter: string
  readonly path: string
  readonly status: 400 | 413 | 415 | 422 | 500
  readonly message: string
  readonly cause?: unknown
}> {
  readonly retryable = false
}

/** A policy refused an event outright; raised to whoever waits for a run that will not come. */
export class PolicyViolationError extends Data.TaggedError("PolicyViolationError")<{
  readonly eventId: string
  readonly policy: string
  readonly message: string
}> {
  readonly retryable = false
}

/** A schedule is invalid, or a job could not be changed. */
export class SchedulerError extends Data.TaggedError("SchedulerError")<{
  readonly job: string
  readonly message: string
  readonly cause?: unknown
}> {
  readonly retryable = false
}

/** A channel could not reach its platform. */
export class ChannelConnectionError extends Data.TaggedError("ChannelConnectionError")<{
  readonly channel: string
  readonly message: string
  readonly cause?: unknown
}> {
  readonly retryable = true
}

/**
 * What became of a message that a channel did not get a receipt for.
 *
 * - `not-sent`: proved; it is tried again.
 * - `unknown`: it may have been sent; tried again only where the channel deduplicates.
 * - `rejected`: not sent, and trying again would change nothing.
 */
export type SendOutcome = "not-sent" | "unknown" | "rejected"

/** A channel did not get a message across, or cannot tell whether it did. */
export class ChannelSendError extends Data.TaggedError("ChannelSendError")<{
  readonly channel: string
  readonly outcome: SendOutcome
  readonly message: string
  /** How long the platform asked us to wait, in milliseconds. */
  readonly retryAfterMillis?: number
  readonly cause?: unknown
}> {
  get retryable(): boolean {
    return this.outcome === "not-sent"
  }
}

/** The agent run failed. `retryable` says whether another attempt may succeed. */
export class AgentRunError extends Data.TaggedError("AgentRunError")<{
  readonly message: string
  readonly retryable: boolean
  /** How long the provider asked us to wait, in milliseconds. */
  readonly retryAfterMillis?: number
  /** What the provider charged all the same. */
  readonly usage?: Usage
  readonly cause?: unknown
}> {}
