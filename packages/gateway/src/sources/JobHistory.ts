import { Effect } from "effect"
import type { Slot } from "../domain/Job.ts"
import type { StoreError, StoreShape } from "../records/Store.ts"
import type { Entry } from "./Jobs.ts"
import { type Range, rangeOf } from "./Occurrences.ts"
import { skippedRow, toSlot } from "./Slots.ts"

export interface HistoryOptions {
  /** Default: 100. At most 1,000. */
  readonly limit?: number | undefined
  /** Only slots of instants before this one, such as the last one's of the page before. */
  readonly before?: Date | undefined
}

const MOST = 1_000

/** The instants that have passed since the job was disabled, and why; `undefined` when there are none. */
export const passedDisabled = ({ compiled, row }: Entry, now: number): readonly [Range, string] | undefined => {
  if (row.enabled === 1 || row.next_at === null || row.next_at > now) return undefined
  const reason = row.disabled_for === null ? "disabled" : `disabled after ${row.failures} failures in a row`
  return [rangeOf(compiled, row.next_at, now), reason]
}

/** What became of a job's instants, the last one first. Without `entry`: of one that is gone. */
export const historyOf = (
  store: StoreShape,
  id: string,
  entry: Entry | undefined,
  now: number,
  { before = new Date(8.64e15), limit = 100 }: HistoryOptions = {}
): Effect.Effect<ReadonlyArray<Slot>, StoreError> => {
  // What has passed since it was disabled gets its row when it is enabled.
  const passed = entry === undefined ? undefined : passedDisabled(entry, now)
  const open = passed === undefined ? [] : [skippedRow(id, ...passed, now)]
  const rows = store.find("slots", {
    where: { job_id: id, at: { lt: before.getTime() } },
    orderBy: ["at", "desc"],
    limit: Math.min(limit, MOST)
  })
  return Effect.map(rows, (rows) =>
    [...open.filter(({ at }) => at < before.getTime()), ...rows].slice(0, limit).map(toSlot)
  )
}
