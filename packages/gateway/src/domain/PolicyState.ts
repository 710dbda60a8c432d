import type { Budget } from "./Budget.ts"
import type { Moment } from "./Calendar.ts"

/** What a policy may look at besides the event. All of it is recorded with the decision. */
export interface PolicyState {
  readonly now: Moment
  /** The next 09:00 on the gateway's wall clock. */
  readonly nextMorning: Date
  /** The day's tokens, over all agents: the first of `budgets`. `limit` is `null` when it is unlimited. */
  readonly budget: Pick<Budget, "limit" | "used" | "reserved" | "estimate" | "resetsAt">
  /** All budgets the event's run would count in: those over all agents, then those of its agent. */
  readonly budgets: ReadonlyArray<Budget>
  /** Actions (events let through to the agent) this hour. `limit` is `null` when unlimited. */
  readonly rate: { readonly limit: number | null; readonly count: number; readonly resetsAt: Date }
  readonly pending: {
    readonly queued: number
    readonly merging: number
    readonly awaitingApproval: number
    readonly running: number
  }
  /** The agent's heartbeat history; what it says matters for heartbeat events only. */
  readonly heartbeat: {
    readonly consecutiveSkips: number
    /** Whether anything but heartbeats, and but what runs caused, happened to the agent since its last tick. */
    readonly changed: boolean
  }
  /** Set when a merge window has closed and the events it held are judged as one. */
  readonly merge: { readonly key: string; readonly count: number } | null
  /** Set when a person has approved this event. */
  readonly approval: { readonly id: string; readonly by: string } | null
  /**
   * What led to this event: how many runs lie between it and the event its chain of causes began with, 0 for one from
   * outside; and how many events of that chain came in the minute until it, itself included.
   */
  readonly chain: { readonly depth: number; readonly count: number }
  /** Events of this event's sender in the minute until now, itself included while it is that young; 0 without a sender. */
  readonly sender: { readonly count: number }
  /**
   * How the agent's runs went: how many failed in a row until now, and when, of such a row, the last one failed or another
   * was let through; `null` when the last one did not fail.
   */
  readonly agent: { readonly failures: number; readonly lastAt: Date | null }
}
