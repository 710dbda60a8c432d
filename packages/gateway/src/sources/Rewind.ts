import { Clock, Effect } from "effect"
import { Journal } from "../records/Journal.ts"
import { Store } from "../records/Store.ts"
import type { SlotRow } from "../records/Tables.ts"
import type { Entry, Jobs } from "./Jobs.ts"
import { rangeOf } from "./Occurrences.ts"
import { nextAfter } from "./ScheduleClock.ts"

/** Jobs taken back in one step. */
const PAGE = 500

/**
 * After the clock was set back, a job is not to wait until the clock is again where it was: it is due at the first instant
 * after now. Instants that were skipped and are still to come after all have no slot any more; those that made an event keep
 * it, and make no other.
 */
export const make = (jobs: Jobs) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal

    /** Jobs that wait for longer than until their next instant, and what that is. */
    const ahead = (now: number): Array<readonly [Entry, number]> => {
      const found: Array<readonly [Entry, number]> = []
      for (const entry of jobs.values()) {
        const { next_at } = entry.row
        if (next_at === null || next_at <= now) continue
        const next = nextAfter(entry.compiled, now)
        if (next !== undefined && next < next_at) found.push([entry, next])
      }
      return found
    }
    return Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const back = ahead(now)
      for (let from = 0; from < back.length; from += PAGE) {
        const page = back.slice(from, from + PAGE)
        const ids = page.map(([{ row }]) => row.id)
        const rows = yield* store.find("slots", { where: { job_id: { in: ids }, until: { gt: now } } })
        const rowsOf = new Map<string, Array<SlotRow>>()
        for (const row of rows) rowsOf.set(row.job_id, [...(rowsOf.get(row.job_id) ?? []), row])
        yield* journal.step((tx) => {
          for (const [entry, next_at] of page) {
            let accounted_at = now
            for (const { at, job_id, state, until: last } of rowsOf.get(entry.row.id) ?? []) {
              if (state !== "skipped") accounted_at = Math.max(accounted_at, at)
              else if (at > now) tx.write({ op: "delete", table: "slots", where: { job_id, at } })
              else if (last > now) {
                const { count, until: end } = rangeOf(entry.compiled, at, now)
                tx.write({
                  op: "update",
                  table: "slots",
                  key: { job_id, at },
                  set: { until: end, count: count ?? null }
                })
              }
            }
            jobs.change(tx, entry, { next_at, accounted_at })
            jobs.noteSkipped(tx, entry, undefined)
          }
        })
      }
    })
  })
