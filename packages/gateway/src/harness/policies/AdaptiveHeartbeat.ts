import type { GatewayEvent } from "../../domain/GatewayEvent.ts"
import type { HeartbeatPolicy } from "../../domain/PolicyConfig.ts"
import * as Policy from "../Policy.ts"

export interface AdaptiveHeartbeatOptions {
  /** For heartbeats that name none. Default: `adaptive`. */
  readonly policy?: HeartbeatPolicy
  /** For heartbeats that name none. Default: 6. */
  readonly maxConsecutiveSkips?: number
}

/** What a heartbeat event says of itself, set by the scheduler from its configuration. */
export interface HeartbeatMetadata {
  readonly heartbeatPolicy?: HeartbeatPolicy | undefined
  readonly maxConsecutiveSkips?: number | undefined
}
const metadataOf = (event: GatewayEvent): HeartbeatMetadata => event.metadata as HeartbeatMetadata

/**
 * Priority 10. Skips heartbeat ticks that have nothing to look at: `adaptive`, when nothing but heartbeats happened to the
 * agent since its last tick and nothing is pending; `conservative`, when nothing is pending; `always`, never. What waits for a
 * person is not pending: the agent can do nothing about it. After `maxConsecutiveSkips` in a row one goes through.
 */
export const make = (options: AdaptiveHeartbeatOptions = {}) =>
  Policy.make("AdaptiveHeartbeat", {
    priority: 10,
    evaluate: (event, { heartbeat, pending }) => {
      if (event.source !== "heartbeat") return Policy.pass
      const policy = metadataOf(event).heartbeatPolicy ?? options.policy ?? "adaptive"
      const most = metadataOf(event).maxConsecutiveSkips ?? options.maxConsecutiveSkips ?? 6
      if (policy === "always" || heartbeat.consecutiveSkips >= most) return Policy.pass
      const idle = pending.queued + pending.merging === 0
      if (policy === "conservative") return idle ? Policy.skip("nothing is pending") : Policy.pass
      return idle && !heartbeat.changed ? Policy.skip("nothing has changed since the last tick") : Policy.pass
    }
  })
