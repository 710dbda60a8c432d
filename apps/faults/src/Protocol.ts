/** What a switch can be told, and the crash-loop breaker. */
export type Switching = "pause" | "stop" | "terminate" | "resume" | "release"

/** What the harness asks of a server, over the channel between parent and child. */
export type Request =
  | { readonly id: number; readonly ask: "clock"; readonly shift: number }
  | { readonly id: number; readonly ask: Switching }
  /** Has it go on with the other one of the two configurations it knows. */
  | { readonly id: number; readonly ask: "reload" }
  /** Writes the audit, as `AuditLog.export` gives it, to a file. */
  | { readonly id: number; readonly ask: "export"; readonly file: string }

export type Question = Request extends infer R ? (R extends Request ? Omit<R, "id"> : never) : never

/** What a server tells, a line of JSON each: written at once, so that a kill takes nothing back that was told. */
export type Told =
  | { readonly ready: string }
  /** An agent was called: the outside world's own record of what ran. */
  | { readonly call: { readonly runId: string; readonly eventId: string; readonly attempt: number } }
  | { readonly answered: number; readonly error?: string }

/** The file descriptor it tells them on: a pipe of their own, so that what it logs is not among them. */
export const TELLING = 3

/** How a server is started: its one argument, as JSON. */
export interface ServerOptions {
  readonly storage: string
  /** Without heartbeats and crons: nothing happens that was not asked for, so that it comes to rest. */
  readonly quiet: boolean
  readonly rules: Rules
}

/** What chance decides, round by round, of how the server is configured. */
export interface Rules {
  readonly dailyTokenBudget: number | "unlimited"
  readonly whenBusy: "queue" | "collect" | "interrupt" | "steer"
  readonly overflow: "refuse" | "drop-oldest"
  readonly approvers: 1 | 2
  readonly maxAttempts: number
  readonly onCrash: "retry" | "escalate"
  readonly whenStopped: "refuse" | "keep"
  /** Beside `unlimited`, only where the plan has nothing but what leads to it. */
  readonly maxUncleanStarts: number | "unlimited"
}

/** What the server's doors are opened with. Nothing here is worth stealing. */
export const SECRET = "faults-webhook-secret"
export const PRINCIPALS = { ada: "token-of-ada", bob: "token-of-bob" } as const
export type Principal = keyof typeof PRINCIPALS

export const DRAIN_DEADLINE = 300
/** Longer than a round, and shorter than the clock is set on at the end of it. */
export const APPROVAL_TTL = 1_800_000
