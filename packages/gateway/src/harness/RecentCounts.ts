import { Effect } from "effect"
import type { StoreError, StoreShape, Where } from "../records/Store.ts"
import type { EventRow } from "../records/Tables.ts"

/** How long an event counts as recent; also by how much a clock may be set back without what came before being forgotten. Milliseconds. */
const WINDOW = 60_000

/**
 * How many events of each kind came in the last minute. Forgets them as they age, so that it never holds more than a minute's.
 */
export class RecentCounts {
  private readonly counts = new Map<string, number>()
  /** In the order they came; those before `head` are forgotten already. */
  private recent: Array<{ readonly key: string; readonly at: number }> = []
  private head = 0

  /** An event of this key came: how many did in the minute until it, itself included. */
  add(key: string, at: number): number {
    this.forget(at)
    this.recent.push({ key, at: Math.max(at, this.recent.at(-1)?.at ?? at) })
    const count = (this.counts.get(key) ?? 0) + 1
    this.counts.set(key, count)
    return count
  }
  /** How many came in the minute until `at`. */
  of(key: string, at: number): number {
    this.forget(at)
    return this.counts.get(key) ?? 0
  }
  /** How many keys there are to count. */
  get size(): number {
    return this.counts.size
  }
  reset(): void {
    this.counts.clear()
    this.recent = []
    this.head = 0
  }
  private forget(now: number): void {
    // By a clock that was set back, none of it would age until the clock is again where it was.
    if ((this.recent.at(-1)?.at ?? now) > now + WINDOW) this.reset()
    while (this.head < this.recent.length) {
      const oldest = this.recent[this.head]
      if (oldest === undefined || oldest.at > now - WINDOW) break
      this.head += 1
      const left = (this.counts.get(oldest.key) ?? 1) - 1
      if (left === 0) this.counts.delete(oldest.key)
      else this.counts.set(oldest.key, left)
    }
    if (this.head * 2 <= this.recent.length) return
    this.recent = this.recent.slice(this.head)
    this.head = 0
  }
}

/** Reads the last minute of what is known by this column from the records. */
export const load = (
  counts: RecentCounts,
  store: StoreShape,
  column: "chain_root" | "sender",
  now: number
): Effect.Effect<void, StoreError> => {
  // Whatever is not less than nothing: as the index has it, only events that have it.
  const where: Where<"events"> = { received_at: { gt: now - WINDOW, lte: now + WINDOW }, [column]: { gte: "" } }
  return Effect.map(
    store.find("events", { where, orderBy: ["received_at", "asc"] }),
    (rows: ReadonlyArray<EventRow>) => {
      counts.reset()
      for (const row of rows) counts.add(row[column] ?? "", row.received_at)
    }
  )
}
