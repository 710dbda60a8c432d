import type { GatewayConfig } from "../domain/Config.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { jobOf } from "../domain/Job.ts"
import type { Usage } from "../domain/Run.ts"
import type { NewTurn } from "../records/SessionStore.ts"
import type { Waiting } from "./Lanes.ts"
import { NO_USAGE } from "./RunExit.ts"

/** An event that was let through, and the run that is to handle it. */
export interface Dispatch {
  readonly event: GatewayEvent
  readonly agentId: string
  readonly taskDescription: string
  /** The event's payload as JSON. */
  readonly payloadText: string
  /** Digest of the proposal a person approved: the run is called off when it would be another. */
  readonly approved?: string | undefined
}

/** A run that waits for its turn, or is under way. */
export interface RunItem extends Dispatch, Waiting {
  readonly runId: string
  /** Attempts made so far. The number of the last one fences off what earlier ones come to. */
  attempt: number
  /** What those of them used that were to be followed by another. */
  spent: Usage
  /** What it is asked: what it takes over of others is added. */
  taskDescription: string
  /** It has ended before its turn came. */
  gone: boolean
  /** It got its turn, but not its attempt: the kill switch was thrown in between. It waits again. */
  heldBack: boolean
  /** Why it was interrupted, when it is not to be tried again. */
  stopped: "terminated" | "superseded" | "aborted" | undefined
  /** Who had it aborted. */
  abortedBy: string | undefined
}

/** Events of a session have one lane, as have those of a job, unless it lets them overlap. */
export const laneOf = (event: GatewayEvent): string => {
  if (event.sessionKey !== undefined) return event.sessionKey
  const job = jobOf(event)
  return job === undefined || job.overlap === "allow" ? event.id : `job:${job.jobId}`
}

/** The run of an event, before its turn. `attempt`: how many it has had. */
export const itemOf = (dispatch: Dispatch, runId: string, attempt = 0, spent = NO_USAGE): RunItem => ({
  event: dispatch.event,
  agentId: dispatch.agentId,
  taskDescription: dispatch.taskDescription,
  payloadText: dispatch.payloadText,
  approved: dispatch.approved,
  runId,
  attempt,
  spent,
  lane: laneOf(dispatch.event),
  priority: dispatch.event.priority,
  gone: false,
  heldBack: false,
  stopped: undefined,
  abortedBy: undefined
})

/** Whether one was asked after the other, though it may have been let through before. */
export const isNewer = (one: RunItem, other: RunItem): boolean => one.event.id > other.event.id

/** A run of a session that interrupts: the newest message has the next one. */
export const SUPERSEDED = "interrupted by a newer message of its session (sessions.whenBusy)"

/** A run that somebody ended. */
export const abortedBy = (by: string): string => `aborted by ${by}`

/** The session whose history the run is shown and adds to. A heartbeat has none: its context is the same at every tick. */
export const sessionOf = ({ accessControl }: GatewayConfig, { event }: Dispatch): string | undefined =>
  accessControl.mode === "chat" && event.source !== "heartbeat" ? event.sessionKey : undefined

/** What a run was asked, as the history of its session has it. */
export const userTurn = ({ event, taskDescription }: RunItem): NewTurn => ({
  role: "user",
  content: taskDescription,
  sender: event.sender,
  eventId: event.id
})
