/**
 * The records as they are stored: one row type per table. Column names are the ones in the database; JSON is text;
 * instants are Unix milliseconds.
 */
import type { DeliveryOutcome, DeliveryState } from "../domain/Delivery.ts"
import type { EventPriority, EventSource, EventState } from "../domain/GatewayEvent.ts"
import type { SlotState } from "../domain/Job.ts"
import type { Action } from "../domain/PolicyDecision.ts"
import type { RunState } from "../domain/Run.ts"
import type { Role } from "../domain/Session.ts"
import type { SwitchMode } from "../domain/Switch.ts"

export interface EventRow {
  readonly seq: number
  readonly id: string
  /** `seq` of the audit record that was written with it: its place in the order of all that happened. */
  readonly accepted_seq: number
  readonly source: EventSource
  readonly agent_id: string
  /** JSON: the rule by which it is for this agent. */
  readonly route: string
  readonly priority: EventPriority
  readonly timestamp: number
  readonly received_at: number
  readonly payload: string
  readonly metadata: string
  readonly trace_id: string | null
  readonly sender: string | null
  readonly session_key: string | null
  /** JSON: the route of the answer. */
  readonly reply_to: string | null
  readonly dedupe_key: string | null
  readonly state: EventState
  readonly action: Action | null
  readonly policy: string | null
  readonly reason: string | null
  /** Who was asked, and the state they saw; see `Evidence`. */
  readonly evidence: string | null
  readonly due_at: number | null
  readonly merge_key: string | null
  readonly merged_into: string | null
  readonly decided_at: number | null
  /** 1: its decisions are all in `decisions`, since not the first one was the last, or none was made at once. */
  readonly held: 0 | 1
  /** The run that handles it; the last one, when a person let it be tried again. */
  readonly run_id: string | null
  /** The run that caused it. */
  readonly caused_by: string | null
  /** The event its chain of causes began with; none for one from outside. */
  readonly chain_root: string | null
  readonly chain_depth: number
  /** Events of the chain in the minute until it, itself included. */
  readonly chain_count: number
}

/** A decision on an event that was held, or judged again; of others, the event's row says all. */
export interface DecisionRow {
  /** `seq` of its audit record: its place in the order of all that happened. */
  readonly seq: number
  readonly event_id: string
  readonly at: number
  readonly action: Action
  readonly policy: string
  readonly reason: string | null
  /** Who was asked, and the state they saw; see `Evidence`. */
  readonly evidence: string
  /** Until when it is queued, or when its merge window closes. */
  readonly due_at: number | null
  readonly merge_key: string | null
}

export interface RunRow {
  readonly id: string
  readonly event_id: string
  readonly agent_id: string
  readonly source: EventSource
  readonly session_key: string | null
  readonly state: RunState
  /** The number of the last attempt that began: what fences off the results of earlier ones. */
  readonly attempt: number
  /** Until when the attempt under way is known to be alive; extended while it is. */
  readonly lease_until: number | null
  /** JSON: the program outside that has the last attempt. */
  readonly worker: string | null
  readonly task: string
  readonly reserved_tokens: number
  /** US dollars; none when its cost was not known, or money was not counted. */
  readonly reserved_usd: number | null
  readonly input_tokens: number
  readonly output_tokens: number
  /** US dollars, once it has ended; none when it is not known. */
  readonly cost_usd: number | null
  readonly model: string | null
  readonly text: string | null
  readonly error: string | null
  readonly created_at: number
  readonly started_at: number | null
  readonly ended_at: number | null
}

export interface ApprovalRow {
  readonly id: string
  readonly event_id: string
  /** The run that was abandoned, where that is what a person is asked about. */
  readonly run_id: string | null
  readonly state: "pending" | "approved" | "denied" | "expired"
  readonly policy: string
  readonly reason: string
  readonly requested_at: number
  readonly expires_at: number
  readonly decided_at: number | null
  readonly decided_by: string | null
  /** JSON: what would run. */
  readonly proposal: string
  /** SHA-256 of the proposal. */
  readonly digest: string
  /** How many different persons must approve. */
  readonly approvers: number
  /** The run it was used for. */
  readonly consumed_by: string | null
}

export interface VoteRow {
  readonly approval_id: string
  readonly voter: string
  readonly answer: "approved" | "denied"
  /** What the voter was shown. */
  readonly digest: string
  readonly at: number
}

export interface AuditRow {
  readonly chain: string
  readonly seq: number
  readonly at: number
  readonly kind: string
  readonly event_id: string | null
  /** RFC 8785 canonical JSON of the whole record; what is hashed. */
  readonly body: string
  readonly prev_hash: string
  readonly hash: string
}

export interface SessionRow {
  readonly key: string
  readonly agent_id: string
  readonly updated_at: number
}

export interface TurnRow {
  readonly seq: number
  readonly session_key: string
  readonly role: Role
  readonly content: string
  readonly at: number
  readonly sender: string | null
  readonly event_id: string | null
}

export interface JobRow {
  readonly id: string
  readonly name: string
  /** Where it came from: `config` jobs follow the configuration, `api` jobs were added at run time. */
  readonly origin: "config" | "api"
  readonly source: "heartbeat" | "cron"
  /** JSON: the schedule. */
  readonly schedule: string
  readonly agent_id: string
  readonly instruction: string
  readonly priority: EventPriority
  /** JSON: metadata of the events it makes. */
  readonly metadata: string
  readonly enabled: number
  readonly delete_after_run: number
  /** JSON: what becomes of its instants when not all goes as planned. */
  readonly rules: string
  readonly created_at: number
  readonly last_at: number | null
  /** The first instant that is not accounted for. */
  readonly next_at: number | null
  /** The last instant that has a slot. */
  readonly accounted_at: number | null
  /** Runs that have failed since the last one that did not. */
  readonly failures: number
  /** The event after whose failure it was disabled, until it is enabled. */
  readonly disabled_for: string | null
  /** JSON: the route of the answers. */
  readonly deliver_to: string | null
}

/** What became of an instant at which a job was due. */
export interface SlotRow {
  readonly job_id: string
  readonly at: number
  /** The last of several instants on end that were skipped for the same reason. */
  readonly until: number
  /** How many instants; null where they were not counted. */
  readonly count: number | null
  readonly state: SlotState
  /** Whether its event was made late. */
  readonly late: number
  readonly reason: string | null
  readonly event_id: string | null
  readonly started_at: number | null
  readonly ended_at: number | null
}

export interface DeliveryRow {
  readonly seq: number
  readonly id: string
  readonly event_id: string
  readonly run_id: string
  readonly agent_id: string
  readonly channel: string
  readonly target: string
  readonly state: DeliveryState
  readonly attempt: number
  readonly outcome: DeliveryOutcome
  readonly text: string
  readonly created_at: number
  /** A prepared one is not tried before. */
  readonly due_at: number
  readonly reference: string | null
  readonly error: string | null
  readonly ended_at: number | null
}

export interface SwitchRow {
  readonly scope: string
  readonly mode: SwitchMode
  readonly changed_at: number
  readonly changed_by: string
}

/** An agent whose last runs failed. */
export interface FailureRow {
  readonly agent_id: string
  /** How many in a row. */
  readonly count: number
  /** When the last one failed, or another was let through. */
  readonly at: number
}

/** What was told of a budget, in the window that began at `since`. */
export interface BudgetNoticeRow {
  /** Its unit, window and scope: `tokens:day:*`. */
  readonly budget: string
  readonly notice: "warning" | "exhausted"
  readonly since: number
}

/** A start of the gateway that has not ended in order, so far. */
export interface StartRow {
  readonly id: string
  readonly started_at: number
}

/** A bearer token that was made at run time. */
export interface TokenRow {
  readonly id: string
  /** The principal who holds it. */
  readonly name: string
  /** SHA-256 of the token, in hexadecimal; the token itself is nowhere. */
  readonly hash: string
  /** JSON: what it is for. */
  readonly scopes: string
  readonly created_at: number
  readonly created_by: string
  readonly expires_at: number | null
  readonly revoked_at: number | null
  readonly revoked_by: string | null
}

/** A channel of the push service whose messages are kept. */
export interface PushChannelRow {
  readonly name: string
  /** Of the last message there was; numbers go on from it, also when no message is left. */
  readonly last_seq: number
  /** Of the first message that is still told. */
  readonly first_seq: number
}

export interface PushMessageRow {
  readonly channel: string
  /** Its place in the channel, from 1 without gaps. */
  readonly seq: number
  /** What its publisher calls it. */
  readonly id: string
  readonly sender: string
  /** JSON. */
  readonly data: string
  readonly at: number
  /** Channel, sender and id: published again, it is the same message. */
  readonly dedupe_key: string
}

/** How far a principal has come in a channel, by a name of their own. */
export interface PushSubscriptionRow {
  readonly channel: string
  readonly principal: string
  readonly name: string
  /** Everything up to this `seq` is done with. */
  readonly acked_seq: number
  /** When it last was heard by, or left. */
  readonly seen_at: number
}

/** A message that a subscription has not simply acknowledged in its turn. */
export interface PushDeliveryRow {
  readonly channel: string
  readonly principal: string
  readonly name: string
  readonly seq: number
  /**
   * - `acked`: before one that comes earlier was. `retrying`: told again at `due_at`.
   * - `dead`: given up. `replayed`: given up, and told again all the same since a person said so.
   */
  readonly state: "acked" | "retrying" | "dead" | "replayed"
  /** Attempts that have failed. */
  readonly attempt: number
  readonly due_at: number
  /** Why the last attempt failed. */
  readonly error: string | null
  /** Of a dead letter. */
  readonly id: string | null
  /** When it became one. */
  readonly died_at: number | null
}

/** Who was in a channel of the push service. */
export interface PushPresenceRow {
  readonly channel: string
  readonly principal: string
  readonly since: number
  readonly seen_at: number
  /** JSON. */
  readonly metadata: string
}

export interface Rows {
  readonly events: EventRow
  readonly decisions: DecisionRow
  readonly runs: RunRow
  readonly approvals: ApprovalRow
  readonly votes: VoteRow
  readonly audit: AuditRow
  readonly sessions: SessionRow
  readonly turns: TurnRow
  readonly jobs: JobRow
  readonly slots: SlotRow
  readonly switches: SwitchRow
  readonly deliveries: DeliveryRow
  readonly starts: StartRow
  readonly failures: FailureRow
  readonly budget_notices: BudgetNoticeRow
  readonly tokens: TokenRow
  readonly push_channels: PushChannelRow
  readonly push_messages: PushMessageRow
  readonly push_subscriptions: PushSubscriptionRow
  readonly push_deliveries: PushDeliveryRow
  readonly push_presence: PushPresenceRow
}
export type Table = keyof Rows
export type Row<T extends Table> = Rows[T]

/** The columns that identify a row. */
export const primaryKey: { readonly [T in Table]: ReadonlyArray<keyof Rows[T] & string> } = {
  events: ["id"],
  decisions: ["seq"],
  runs: ["id"],
  approvals: ["id"],
  votes: ["approval_id", "voter"],
  audit: ["chain", "seq"],
  sessions: ["key"],
  turns: ["seq"],
  jobs: ["id"],
  slots: ["job_id", "at"],
  switches: ["scope"],
  deliveries: ["id"],
  starts: ["id"],
  failures: ["agent_id"],
  budget_notices: ["budget", "notice"],
  tokens: ["id"],
  push_channels: ["name"],
  push_messages: ["channel", "seq"],
  push_subscriptions: ["channel", "principal", "name"],
  push_deliveries: ["channel", "principal", "name", "seq"],
  push_presence: ["channel", "principal"]
}

/** Columns outside the primary key in which no two rows may hold the same non-null value. */
export const uniqueColumns: { readonly [T in Table]?: ReadonlyArray<keyof Rows[T] & string> } = {
  events: ["seq", "dedupe_key"],
  deliveries: ["seq"],
  push_messages: ["dedupe_key"],
  push_deliveries: ["id"]
}
