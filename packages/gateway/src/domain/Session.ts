export type Role = "user" | "assistant"

/** One message of a session. `seq` grows from turn to turn; other sessions use the numbers between. */
export interface Turn {
  readonly seq: number
  readonly role: Role
  readonly content: string
  readonly at: Date
  readonly sender?: string
  readonly eventId?: string
}

/** A conversation, known by its key. Keys are compared as they are; `a:1:2` and `a:1_2` are two sessions. */
export interface Session {
  readonly key: string
  readonly agentId: string
  readonly updatedAt: Date
}
