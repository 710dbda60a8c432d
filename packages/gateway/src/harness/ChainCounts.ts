import { Effect } from "effect"
import { GatewayError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { StoreShape } from "../records/Store.ts"

/** Where an event that a run causes comes in its chain. */
export type Cause = Pick<NonNullable<GatewayEvent["chain"]>, "root" | "depth">

/** Where the consequences of this run come. Fails with `invalid-input` when there is no such run. */
export const causeOf = (store: StoreShape, runId: string): Effect.Effect<Cause, GatewayError> =>
  Effect.gen(function* () {
    const [run] = yield* store.find("runs", { where: { id: runId } })
    const [cause] = run === undefined ? [] : yield* store.find("events", { where: { id: run.event_id } })
    return cause && { root: cause.chain_root ?? cause.id, depth: cause.chain_depth + 1 }
  }).pipe(
    Effect.mapError((cause) => new GatewayError({ reason: "storage", message: cause.message, cause })),
    Effect.flatMap((cause) =>
      cause === undefined
        ? new GatewayError({ reason: "invalid-input", message: `causedBy: there is no run "${runId}"` })
        : Effect.succeed(cause)
    )
  )

/** How long an event counts as recent. Milliseconds. */
const WINDOW = 60_000

/**
 * How many events of each chain of causes came in the last minute. Forgets them as they age, so that it never holds more
 * than a minute's.
 */
export class ChainCounts {
  private readonly counts = new Map<string, number>()
  /** In the order they came; those before `head` are forgotten already. */
  private recent: Array<{ readonly root: string; readonly at: number }> = []
  private head = 0

  /** An event of the chain came: how many did in the minute until it, itself included. */
  add(root: string, at: number): number {
    this.forget(at)
    this.recent.push({ root, at })
    const count = (this.counts.get(root) ?? 0) + 1
    this.counts.set(root, count)
    return count
  }
  /** How many chains there are to count. */
  get size(): number {
    return this.counts.size
  }
  /** Reads the last minute from the records. */
  load(store: StoreShape, now: number) {
    return Effect.map(
      store.find("events", {
        // Whatever is greater than nothing: as the index has it, only events that were caused.
        where: { received_at: { gt: now - WINDOW }, chain_root: { gt: "" } },
        orderBy: ["received_at", "asc"]
      }),
      (rows) => {
        this.counts.clear()
        this.recent = []
        this.head = 0
        for (const row of rows) if (row.chain_root !== null) this.add(row.chain_root, row.received_at)
      }
    )
  }
  private forget(now: number): void {
    while (this.head < this.recent.length) {
      const oldest = this.recent[this.head]
      if (oldest === undefined || oldest.at > now - WINDOW) break
      this.head += 1
      const left = (this.counts.get(oldest.root) ?? 1) - 1
      if (left === 0) this.counts.delete(oldest.root)
      else this.counts.set(oldest.root, left)
    }
    if (this.head * 2 <= this.recent.length) return
    this.recent = this.recent.slice(this.head)
    this.head = 0
  }
}
