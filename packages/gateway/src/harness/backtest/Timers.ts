import { DueHeap } from "../../internal/DueHeap.ts"
import type { Answer, Suspended } from "../Chain.ts"
import type { Subject } from "./Subject.ts"

/** What a replay does, handing out what it needs of a policy that takes its time. */
export type Steps = Generator<Suspended, void, Answer>

interface Timer {
  readonly subject: Subject
  readonly fire: (subject: Subject, at: number) => Steps | undefined
}

/** What a replay does at a time of its own. Unix milliseconds. */
export class Timers {
  private readonly due = new DueHeap()
  private readonly timers = new Map<string, Timer>()

  get nextAt(): number {
    return this.due.first()?.at ?? Number.POSITIVE_INFINITY
  }
  /** Keys are `due:` and the id of an event that is judged, or another word for the end of something. */
  set(key: string, at: number, subject: Subject, fire: Timer["fire"]): void {
    this.timers.set(key, { subject, fire })
    this.due.set(key, at)
  }
  /** The next that is due, once: at `now` itself, as in a gateway, in the order of ids, and only up to that of `upTo`. */
  take(now: number, upTo: string | undefined): (Timer & { readonly at: number }) | undefined {
    const first = this.due.first()
    if (first === undefined || first.at > now) return undefined
    const { at, key } = first
    if (at === now && upTo !== undefined && key > `due:${upTo}`) return undefined
    const timer = this.timers.get(key)
    this.due.delete(key)
    this.timers.delete(key)
    return timer && { ...timer, at }
  }
}
