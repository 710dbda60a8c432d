import { Schema } from "effect"
import { required } from "./ConfigFields.ts"

/** Where an answer goes: a channel by its name, and whom or what that channel is to reach. */
export const ReplyRoute = Schema.Struct({
  channel: required(Schema.NonEmptyString, "The channel, by its name."),
  target: required(Schema.NonEmptyString, "Whom or what the channel is to reach.")
})
export type ReplyRoute = typeof ReplyRoute.Type

const HALF_A_PAIR = /\p{Surrogate}/u

/** Why nothing can be sent by this route; `undefined` when it can. */
export const routeProblem = ({ channel, target }: ReplyRoute, channels: ReadonlySet<string>): string | undefined => {
  if (!channels.has(channel)) {
    const known = channels.size === 0 ? "none; set `channels`" : [...channels].join(", ")
    return `there is no channel "${channel}"; channels: ${known}`
  }
  if (typeof target !== "string" || target === "") return "target is missing; say whom the channel is to reach"
  return HALF_A_PAIR.test(target) ? "target has half a surrogate pair; send well-formed Unicode" : undefined
}

/**
 * - `prepared`: waits for its turn, its time, or its agent's switch. `sending`: the channel has it.
 * - `sent`: the platform took it. `unknown`: it may have been sent or not; a person decides.
 * - `failed`: a dead letter, which was not sent and is not tried again by itself. `dropped`: a person gave it up.
 */
export const DeliveryState = Schema.Literal("prepared", "sending", "sent", "unknown", "failed", "dropped")
export type DeliveryState = typeof DeliveryState.Type

/** How the run ended that a delivery tells of. */
export type DeliveryOutcome = "completed" | "failed"

/** A delivery as it is recorded. */
export interface Delivery {
  /** Also the key a channel hands to its platform: the same for every attempt. */
  readonly id: string
  /** Its place among all deliveries, and in its target's order. */
  readonly seq: number
  readonly eventId: string
  readonly runId: string
  readonly agentId: string
  readonly to: ReplyRoute
  readonly state: DeliveryState
  /** Attempts made so far, or since the last replay. */
  readonly attempt: number
  readonly outcome: DeliveryOutcome
  readonly text: string
  readonly preparedAt: Date
  /** When a prepared one is tried next, at the earliest. */
  readonly dueAt: Date | undefined
  /** What the platform calls the message, or how it answered. */
  readonly reference: string | undefined
  /** What went wrong in the last attempt. */
  readonly error: string | undefined
}

/** How many deliveries there are, by what they wait for. */
export interface DeliveryCounts {
  readonly prepared: number
  readonly sending: number
  /** Those that wait for a person. */
  readonly unknown: number
  /** Dead letters. */
  readonly failed: number
  /** Since start. */
  readonly sent: number
}
