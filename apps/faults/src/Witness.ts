import type { Call } from "./Child.ts"
import type { Principal } from "./Protocol.ts"

/** A message to the chat door that was answered with its reply. */
export interface Heard {
  readonly key: string
  readonly eventId: string
  readonly reply: string | null
  /** Instants on the harness's own steady clock. */
  readonly sentAt: number
  readonly answeredAt: number
  readonly sender: Principal
  readonly chatId: string
}

/** An answer to an approval that the server took or refused. */
export interface Verdict {
  readonly approvalId: string
  readonly state: "approved" | "denied"
  readonly by: Principal
  readonly status: 200 | 409
}

/** What was taken, on the harness's own steady clock. */
export interface Taken {
  readonly key: string
  readonly sentAt: number
  readonly answeredAt: number
}

/** What the server promised, as the outside world heard it. Everything sent has a key of its own, found again in its payload. */
export class Witness {
  /** Event ids by key, of what was acknowledged. */
  readonly accepted = new Map<string, string>()
  readonly taken: Array<Taken> = []
  /** Keys of what was answered with a refusal, and never sent again. */
  readonly refused = new Set<string>()
  /** Ids that a second delivery of a key was answered with. */
  readonly repeated: Array<{ readonly key: string; readonly eventId: string }> = []
  /** How many were refused since their session was full. */
  full = 0
  readonly heard: Array<Heard> = []
  readonly verdicts: Array<Verdict> = []
  /** Calls of agents, by the server's own word, told before each was made. */
  readonly calls: Array<Call> = []
  /** While everything was stopped: from when it was said to be, until it was asked to go on. */
  readonly stops: Array<{ readonly from: number; readonly to: number }> = []
  /** Lives that were ended by a kill since the crash-loop breaker was last let go. */
  crashes = 0
  /** What was seen to be wrong at once. */
  readonly remarks: Array<string> = []
  /** Switches it said it had thrown. */
  switches = 0
  /** Configurations it said it had changed to. */
  reloads = 0
  /** Processes that came to listen. */
  starts = 0
  private sent = 0

  /** How many things the books are held to. */
  get promises(): number {
    return this.accepted.size + this.refused.size + this.repeated.length + this.heard.length + this.verdicts.length
  }

  nextKey(kind: string): string {
    this.sent += 1
    return `${kind}-${this.sent}`
  }
}
