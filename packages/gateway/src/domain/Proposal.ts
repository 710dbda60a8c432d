import { createHash } from "node:crypto"
import type { EventSource } from "./GatewayEvent.ts"
import { canonicalize } from "./Json.ts"
import type { Agent, RunTask } from "./Run.ts"

/** What bounds a run, whichever model is behind the agent. */
export interface RunLimits {
  /** Milliseconds. */
  readonly runTimeoutMs: number
  readonly maxAttempts: number
  /** Turns of the session the agent is shown; 0 outside a session. */
  readonly historyTurns: number
  /** Characters of the session the agent is shown; 0 outside a session. */
  readonly historyCharacters: number
}

/**
 * What a person approves: all of what an agent would be given, but the turns of its session, which are those there are when
 * it runs.
 */
export interface Proposal {
  readonly event: {
    readonly id: string
    readonly source: EventSource
    readonly sender: string | null
    readonly session: string | null
    readonly metadata: Record<string, unknown>
  }
  readonly agent: Agent
  readonly task: string
  /** The event's payload as JSON text, cut as the agent would be shown it. */
  readonly payload: string
  readonly limits: RunLimits
}

/** What would run, of a task whose run has no id yet. */
export const proposalOf = (
  { agent, event, payloadText, taskDescription }: Omit<RunTask, "history">,
  limits: RunLimits
): Proposal => ({
  event: {
    id: event.id,
    source: event.source,
    sender: event.sender ?? null,
    session: event.sessionKey ?? null,
    metadata: event.metadata
  },
  agent,
  task: taskDescription,
  payload: payloadText,
  limits
})

/** SHA-256 over the RFC 8785 canonical JSON, in hexadecimal: two proposals have the same one when they are the same. */
export const digestOf = (proposal: Proposal): string =>
  createHash("sha256").update(canonicalize(proposal), "utf8").digest("hex")
