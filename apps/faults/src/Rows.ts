import Database from "better-sqlite3"

export interface EventRow {
  readonly seq: number
  readonly id: string
  readonly source: string
  readonly received_at: number
  readonly payload: string
  readonly metadata: string
  readonly session_key: string | null
  readonly dedupe_key: string | null
  readonly state: string
  readonly merged_into: string | null
  readonly run_id: string | null
}
export interface RunRow {
  readonly id: string
  readonly event_id: string
  readonly state: string
  readonly attempt: number
  readonly input_tokens: number
  readonly output_tokens: number
  readonly reserved_tokens: number
  readonly task: string
  readonly text: string | null
  readonly error: string | null
  readonly created_at: number
}
export interface ApprovalRow {
  readonly id: string
  readonly event_id: string
  readonly state: string
  readonly decided_by: string | null
  /** The abandoned run it is about. */
  readonly run_id: string | null
  readonly proposal: string
  readonly digest: string
  readonly approvers: number
  readonly consumed_by: string | null
}
export interface VoteRow {
  readonly approval_id: string
  readonly voter: string
  readonly answer: "approved" | "denied"
  readonly digest: string
}
export interface TurnRow {
  readonly seq: number
  readonly session_key: string
  readonly role: string
  readonly content: string
  readonly event_id: string | null
}
export interface AuditRow {
  readonly chain: string
  readonly seq: number
  readonly at: number
  readonly kind: string
  readonly event_id: string | null
  readonly body: string
  readonly prev_hash: string
  readonly hash: string
}
export interface SwitchRow {
  readonly scope: string
  readonly mode: string
}

/** All that a file holds, read with SQLite alone: none of the code that wrote it. */
export interface Rows {
  readonly integrity: string
  readonly events: ReadonlyArray<EventRow>
  readonly runs: ReadonlyArray<RunRow>
  readonly approvals: ReadonlyArray<ApprovalRow>
  readonly votes: ReadonlyArray<VoteRow>
  readonly turns: ReadonlyArray<TurnRow>
  readonly audit: ReadonlyArray<AuditRow>
  readonly switches: ReadonlyArray<SwitchRow>
}

export const read = (file: string): Rows => {
  const db = new Database(file, { readonly: true, fileMustExist: true })
  try {
    const all = <Row>(table: string, order: string) =>
      db.prepare<[], Row>(`SELECT * FROM ${table} ORDER BY ${order}`).all()
    return {
      integrity: String(db.pragma("integrity_check", { simple: true })),
      events: all<EventRow>("events", "seq"),
      runs: all<RunRow>("runs", "rowid"),
      approvals: all<ApprovalRow>("approvals", "rowid"),
      votes: all<VoteRow>("votes", "rowid"),
      turns: all<TurnRow>("turns", "seq"),
      audit: all<AuditRow>("audit", "chain, seq"),
      switches: all<SwitchRow>("switches", "scope")
    }
  } finally {
    db.close()
  }
}
