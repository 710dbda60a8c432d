import { type Effect, Schema } from "effect"
import type { EventSource, GatewayEvent } from "./GatewayEvent.ts"
import type { Turn } from "./Session.ts"

/** An agent as the gateway knows it. */
export interface Agent {
  readonly id: string
  /** System prompt. */
  readonly instructions: string
  /** Most tokens one answer may have. */
  readonly maxOutputTokens: number
}

/** What an agent is asked to do. */
export interface RunTask {
  /** Events the run causes say so: `submit({ …, causedBy: task.runId })`. */
  readonly runId: string
  /** 1 for the first attempt. */
  readonly attempt: number
  readonly agent: Agent
  readonly event: GatewayEvent
  readonly taskDescription: string
  /** The event's payload as JSON text, cut to the configured length. */
  readonly payloadText: string
  /** The session's recent turns, oldest first; empty outside a session. */
  readonly history: ReadonlyArray<Turn>
  /**
   * Says that the run goes on. From the first time on it must be said at least every `limits.runStallMs`: a run that falls
   * silent is interrupted. A runner that never says it is held to `limits.runTimeoutMs` alone.
   */
  readonly onProgress?: Effect.Effect<void>
  /**
   * Takes what was said in the session since, oldest first: it is part of this run then, and has none of its own. What is not
   * taken has the next run. Given where `sessions.whenBusy` is `steer`.
   */
  readonly steering?: Effect.Effect<ReadonlyArray<string>>
  /** Says which program outside is to have it, before it has: recorded with the attempt by the time this is done. */
  readonly onAssigned?: (worker: Worker) => Effect.Effect<void>
}

/** A program outside that does a run. */
export interface Worker {
  /** Who its token says it is. */
  readonly principal: string
  /** What it says it is: its name and version. */
  readonly client: string
}

/** Tokens as the provider counted them. */
export interface Usage {
  readonly inputTokens: number
  readonly outputTokens: number
}

/** What came of a run. */
export interface RunResult {
  readonly text: string
  readonly usage: Usage
  /** The model that answered, as its provider names it; the key into the price table. */
  readonly model: string
}

/**
 * - `pending`: decided, or to be tried again, and not dispatched yet. `running`: the agent has it.
 * - `completed`, `failed`: ended. `cancelled`: the kill switch, a person, a newer message or a full session ended it.
 * - `merged`: another run of its session has taken over what it was for.
 * - `abandoned`: cut off too often, or went on although it was interrupted.
 */
export const RunState = Schema.Literal("pending", "running", "completed", "failed", "abandoned", "cancelled", "merged")
export type RunState = typeof RunState.Type

/** Of a run to which nothing more will happen. */
export const ENDED: ReadonlyArray<RunState> = ["completed", "failed", "abandoned", "cancelled", "merged"]

/** A run as it is recorded. */
export interface RunRecord {
  readonly id: string
  readonly eventId: string
  readonly agentId: string
  readonly source: EventSource
  readonly sessionKey: string | undefined
  readonly state: RunState
  /** The number of the last attempt that began. */
  readonly attempt: number
  /** Until when the attempt under way is known to be alive; extended while it is. */
  readonly leaseUntil: Date | undefined
  /** Who has, or had, the last attempt, where that is a program outside. */
  readonly worker: Worker | undefined
  /** What the agent is asked. */
  readonly task: string
  readonly reservedTokens: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly costUsd: number | undefined
  readonly model: string | undefined
  readonly text: string | undefined
  readonly error: string | undefined
  readonly decidedAt: Date
  /** Of the last attempt. */
  readonly startedAt: Date | undefined
  readonly endedAt: Date | undefined
}

/** A run in a list: without what it was asked, and what it answered. */
export type RunSummary = Omit<RunRecord, "task" | "text">
