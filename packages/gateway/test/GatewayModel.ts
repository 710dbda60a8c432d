/** What the gateway must do, in as few words as possible: a map of events, and what each command makes of it. */
export type Command =
  | { readonly do: "submit"; readonly input: Input }
  /** The same input again, under its key. */
  | { readonly do: "repeat"; readonly of: number }
  | { readonly do: "approve" | "deny"; readonly which: number }
  | { readonly do: "end"; readonly which: number; readonly ok: boolean }
  | { readonly do: "wait"; readonly seconds: number }
  | { readonly do: "crash"; readonly seconds: number }
  | { readonly do: "running" | "paused" | "stopped" | "terminated" }
  | { readonly do: "hold" | "unhold" }

export interface Input {
  readonly kind: "plain" | "deploy" | "pr" | "deploy-pr" | "cron"
  readonly key: "a" | "b"
  readonly session: "none" | "s" | "t"
  readonly critical: boolean
}

export const isDeploy = ({ kind }: Input): boolean => kind === "deploy" || kind === "deploy-pr"
export const isMerged = ({ kind }: Input): boolean => kind === "pr" || kind === "deploy-pr"

export interface Modelled {
  readonly input: Input
  state: "deferred" | "merging" | "merged" | "awaiting-approval" | "executed" | "denied"
  approval: "pending" | "approved" | "denied" | "expired" | undefined
  run:
    | { state: "pending" | "running" | "completed" | "failed" | "abandoned" | "cancelled"; attempt: number }
    | undefined
  dueAt: number
}

export const MERGE_WINDOW = 60
/** When what is queued without a time is judged again, at the latest. */
const RECHECK_AFTER = 60
export const APPROVAL_TTL = 600
/** More than any sequence cuts a run off: what becomes of an abandoned one, a person says. */
export const MAX_ATTEMPTS = 1_000

/** Times in seconds. What a command answers is what the gateway must answer. */
export class Model {
  readonly events: Array<Modelled> = []
  mode: "running" | "paused" | "stopped" | "terminated" = "running"
  holding = false
  now = 0
  /** Runs in the order they were decided in. */
  private readonly runs: Array<Modelled> = []

  submit(input: Input): "accepted" | "stopped" {
    if (this.mode === "stopped" || this.mode === "terminated") return "stopped"
    const event: Modelled = { input, state: "deferred", approval: undefined, run: undefined, dueAt: Infinity }
    this.events.push(event)
    this.judge(event)
    return "accepted"
  }
  answer(event: Modelled, answer: "approved" | "denied"): "ok" | "conflict" {
    if (event.approval !== "pending") return event.approval === answer ? "ok" : "conflict"
    event.approval = answer
    if (answer === "approved") this.judge(event)
    else event.state = "denied"
    return "ok"
  }
  end(event: Modelled, ok: boolean): void {
    if (event.run !== undefined) event.run.state = ok ? "completed" : "failed"
    this.dispatch()
  }
  wait(seconds: number): void {
    this.now += seconds
    // Sorting is stable: what is due at one instant is judged in the order it came.
    for (const event of this.events.filter(({ dueAt }) => dueAt <= this.now).sort((a, b) => a.dueAt - b.dueAt)) {
      if (event.state === "merging") this.judge(event, true)
      else if (event.state === "deferred") this.judge(event)
      else if (event.state === "awaiting-approval") {
        event.state = "denied"
        event.approval = "expired"
      }
    }
    if (!this.holding) for (const event of this.events) if (event.state === "deferred") this.judge(event)
  }
  /** Everything in memory is gone, the added policy too; what was deferred is judged again within a minute. */
  crash(seconds: number): void {
    this.holding = false
    this.now += seconds
    for (const { run } of this.runs) {
      if (run?.state !== "running") continue
      run.state = run.attempt < MAX_ATTEMPTS ? "pending" : "abandoned"
    }
    this.dispatch()
    for (const event of this.events) if (event.state === "deferred") event.dueAt = this.now + RECHECK_AFTER
    this.wait(RECHECK_AFTER)
  }
  set(mode: Model["mode"]): void {
    this.mode = mode
    if (mode === "terminated") {
      for (const { run } of this.runs) if (run?.state === "running") run.state = "cancelled"
    }
    this.dispatch()
  }
  hold(holding: boolean): void {
    this.holding = holding
    this.wait(0)
  }
  running(): ReadonlyArray<Modelled> {
    return this.runs.filter(({ run }) => run?.state === "running")
  }

  private judge(event: Modelled, windowClosed = false): void {
    const { critical, key, kind } = event.input
    event.dueAt = Infinity
    if (kind === "cron" && this.holding) event.state = "deferred"
    else if (isDeploy(event.input) && event.approval === undefined) {
      event.state = "awaiting-approval"
      event.approval = "pending"
      event.dueAt = this.now + APPROVAL_TTL
    } else if (isMerged(event.input) && !critical && !windowClosed && event.approval === undefined) {
      const leads = this.events.some((other) => other.state === "merging" && other.input.key === key)
      event.state = leads ? "merged" : "merging"
      if (!leads) event.dueAt = this.now + MERGE_WINDOW
    } else {
      event.state = "executed"
      event.run = { state: "pending", attempt: 0 }
      this.runs.push(event)
      this.dispatch()
    }
  }
  /** One run of a session at a time, in order; none while anything but `running`. */
  private dispatch(): void {
    if (this.mode !== "running") return
    const busy = new Set(this.running().map(({ input }) => input.session))
    for (const { input, run } of this.runs) {
      if (run?.state !== "pending" || (input.session !== "none" && busy.has(input.session))) continue
      run.state = "running"
      run.attempt += 1
      busy.add(input.session)
    }
  }
}
