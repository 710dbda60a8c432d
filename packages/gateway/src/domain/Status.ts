import type { BusEvent } from "./BusEvent.ts"
import type { SwitchMode } from "./Switch.ts"

/** Counts since the gateway started. */
export interface GatewayStats {
  /** Ticks that reached the agent. */
  readonly heartbeatsFired: number
  readonly heartbeatsSkipped: number
  readonly webhooksReceived: number
  /** Webhook events that reached the agent; a merged run counts once. */
  readonly webhooksProcessed: number
  /** Webhook events that were merged into another. */
  readonly webhooksMerged: number
  readonly cronsExecuted: number
  /** Channel messages an agent answered. */
  readonly chatTurnsHandled: number
  readonly totalTokensUsed: number
  readonly actionsSuppressed: number
  readonly actionsEscalated: number
}

export interface GatewayStatus {
  readonly isRunning: boolean
  /** Milliseconds since start. */
  readonly uptime: number
  readonly stats: GatewayStats
  /** What the runs since start cost, in US dollars, those of models with a price. */
  readonly totalCostUsd: number
  readonly budget: {
    readonly limit: number | null
    readonly used: number
    readonly reserved: number
    readonly resetsAt: Date
  }
  readonly rate: { readonly limit: number | null; readonly count: number; readonly resetsAt: Date }
  readonly pending: {
    readonly undecided: number
    readonly queued: number
    readonly merging: number
    readonly awaitingApproval: number
    readonly waiting: number
    readonly running: number
  }
  readonly scheduler: { readonly running: boolean; readonly jobs: number; readonly nextWake: Date | undefined }
  /** Agents (`*`: all) that are not running. */
  readonly switches: Readonly<Record<string, SwitchMode>>
}

/** What a gateway did, told when it stops. */
export interface GatewaySummary {
  /** Heartbeat ticks that reached an agent. */
  readonly heartbeatsFired: number
  /** Runs of any source. */
  readonly totalRuns: number
  /** Cron instants that were judged. */
  readonly cronChecks: number
  readonly chatTurns: number
}

/** What is counted, kept from the bus's events alone. */
export interface Counters extends GatewayStats {
  readonly totalRuns: number
  readonly cronChecks: number
  readonly totalCostUsd: number
}

export const noCounts: Counters = {
  heartbeatsFired: 0,
  heartbeatsSkipped: 0,
  webhooksReceived: 0,
  webhooksProcessed: 0,
  webhooksMerged: 0,
  cronsExecuted: 0,
  chatTurnsHandled: 0,
  totalTokensUsed: 0,
  actionsSuppressed: 0,
  actionsEscalated: 0,
  totalRuns: 0,
  cronChecks: 0,
  totalCostUsd: 0
}

/** The counters after one more event. */
export const count = (counters: Counters, event: BusEvent): Counters => {
  const more = (changes: Partial<Record<keyof Counters, number>>): Counters => {
    const next = { ...counters }
    for (const key of Object.keys(changes) as Array<keyof Counters>) next[key] += changes[key] ?? 0
    return next
  }
  switch (event._tag) {
    case "GatewayEventReceived":
      if (event.source === "webhook") return more({ webhooksReceived: 1 })
      return event.source === "cron" ? more({ cronChecks: 1 }) : counters
    case "PolicyDecisionMade":
      if (event.decision === "escalate") return more({ actionsEscalated: 1 })
      return event.source === "heartbeat" && event.decision === "execute" ? more({ heartbeatsFired: 1 }) : counters
    case "HeartbeatSkipped":
      return more({ heartbeatsSkipped: 1 })
    case "ProactiveActionSuppressed":
      return more({ actionsSuppressed: 1 })
    case "EventsMerged":
      return event.source === "webhook" ? more({ webhooksMerged: event.count - 1 }) : counters
    case "ProactiveActionInitiated":
      if (event.attempt > 1) return counters
      return more({
        totalRuns: 1,
        webhooksProcessed: event.source === "webhook" ? 1 : 0,
        cronsExecuted: event.source === "cron" ? 1 : 0
      })
    case "ProactiveActionCompleted":
      return more({
        totalTokensUsed: event.tokensUsed,
        totalCostUsd: event.costUsd ?? 0,
        chatTurnsHandled: event.source === "channel" && event.success ? 1 : 0
      })
    default:
      return counters
  }
}
