import type { BusEvent } from "./BusEvent.ts"
import type { DeliveryCounts } from "./Delivery.ts"
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

/** Why, and since when, nothing is run or sent and no job fires. */
export interface Held {
  readonly reason: string
  readonly since: Date
}

/** How a part of the gateway stands that goes on for as long as the gateway does. */
export interface ComponentStatus {
  readonly name: string
  /** They start in this order and stop in reverse: what records, what works, and what leads outside. */
  readonly phase: "bus" | "services" | "channels"
  /** `failed`: again and again. It is still begun again, at longer and longer intervals. */
  readonly state: "starting" | "running" | "restarting" | "failed" | "stopping"
  readonly restarts: number
  readonly lastError: string | undefined
}

/** How an agent's runs stand. */
export interface AgentStatus {
  readonly id: string
  readonly running: number
  readonly waiting: number
  /** Runs it may have at a time, as things stand: 0 for one that is outside, and not there. */
  readonly limit: number
}

/** How the scheduler stands. */
export interface SchedulerStatus {
  /** Whether jobs fire. */
  readonly running: boolean
  readonly jobs: number
  readonly nextWake: Date | undefined
  /** Its next wake lies more than two minutes in the past: jobs that are due do not fire. */
  readonly stalled: boolean
}

/** How the configuration stands. */
export interface ConfigStatus {
  /** Since when it is as it is. */
  readonly loadedAt: Date
  /** Why the last one that was to take its place has not; `undefined` when it has. */
  readonly error: string | undefined
  /** Keys that have another value at the next start. */
  readonly atRestart: ReadonlyArray<string>
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
  readonly agents: ReadonlyArray<AgentStatus>
  readonly deliveries: DeliveryCounts
  readonly scheduler: SchedulerStatus
  readonly config: ConfigStatus
  /** Agents (`*`: all) that are not running. */
  readonly switches: Readonly<Record<string, SwitchMode>>
  /** Set after too many starts that a crash ended, until `release`. */
  readonly held: Held | undefined
  /** By phase, each in the order they started. */
  readonly components: ReadonlyArray<ComponentStatus>
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
export type Counters = { -readonly [K in keyof GatewayStats]: number } & {
  totalRuns: number
  cronChecks: number
  totalCostUsd: number
}

export const noCounts = (): Counters => ({
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
})

/** Counts one more event, in place: it runs for every event the gateway tells. */
export const count = (counters: Counters, event: BusEvent): void => {
  switch (event._tag) {
    case "GatewayEventReceived":
      if (event.source === "webhook") counters.webhooksReceived += 1
      else if (event.source === "cron") counters.cronChecks += 1
      return
    case "PolicyDecisionMade":
      if (event.decision === "escalate") counters.actionsEscalated += 1
      else if (event.decision === "execute" && event.source === "heartbeat") counters.heartbeatsFired += 1
      return
    case "ApprovalRequested":
      // Those of a policy are counted as its decisions.
      if (event.runId !== undefined) counters.actionsEscalated += 1
      return
    case "HeartbeatSkipped":
      counters.heartbeatsSkipped += 1
      return
    case "ProactiveActionSuppressed":
      counters.actionsSuppressed += 1
      return
    case "EventsMerged":
      if (event.source === "webhook") counters.webhooksMerged += event.count - 1
      return
    case "ProactiveActionInitiated":
      if (event.attempt > 1) return
      counters.totalRuns += 1
      if (event.source === "webhook") counters.webhooksProcessed += 1
      else if (event.source === "cron") counters.cronsExecuted += 1
      return
    case "ProactiveActionCompleted":
      counters.totalTokensUsed += event.tokensUsed
      counters.totalCostUsd += event.costUsd ?? 0
      if (event.source === "channel" && event.success) counters.chatTurnsHandled += 1
      return
    default:
      return
  }
}
