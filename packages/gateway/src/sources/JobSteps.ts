import { Effect } from "effect"
import { AuditLog } from "../records/AuditLog.ts"
import type { Tx } from "../records/Journal.ts"
import type { JobRow } from "../records/Tables.ts"
import { passedDisabled } from "./JobHistory.ts"
import type { Entry, Jobs } from "./Jobs.ts"
import type { Range } from "./Occurrences.ts"
import { nextAfter } from "./ScheduleClock.ts"
import type { Slots } from "./Slots.ts"

/** What is recorded of jobs: plain code within a journal step. */
export const make = (jobs: Jobs, slots: Slots) =>
  Effect.gen(function* () {
    const audit = yield* AuditLog

    const note = (tx: Tx, { id, name }: Pick<JobRow, "id" | "name">, change: string, more: object = {}) =>
      audit.append(tx, { kind: "job.changed", data: { jobId: id, name, change, ...more } })

    /** What is left of a job once its instants until `next` are accounted for. `fired`: the last of them made an event. */
    const advance = (
      tx: Tx,
      entry: Entry,
      next: number | undefined,
      { fired, set }: { readonly fired: boolean; readonly set: Partial<JobRow> }
    ): void => {
      const over = entry.row.delete_after_run === 1 && (fired || next === undefined)
      if (!over) jobs.change(tx, entry, { ...set, next_at: next ?? null })
      // What the configuration asks for stays, else the next start would take it for new.
      else if (entry.row.origin === "config") jobs.change(tx, entry, { ...set, next_at: null })
      else jobs.remove(tx, entry)
    }
    /** The job's instants until `now` make no event. */
    const pass = (tx: Tx, entry: Entry, range: Range, reason: string): void =>
      advance(tx, entry, nextAfter(entry.compiled, Math.max(range.until, tx.now - entry.delay)), {
        fired: false,
        set: slots.skip(tx, entry, range, reason)
      })
    const enable = (tx: Tx, entry: Entry, by: object = {}): void => {
      note(tx, entry.row, "enabled", by)
      const passed = passedDisabled(entry, tx.now)
      const next_at =
        passed === undefined && entry.row.next_at !== null
          ? entry.row.next_at
          : (nextAfter(entry.compiled, tx.now) ?? null)
      jobs.change(tx, entry, {
        ...(passed === undefined ? {} : slots.skip(tx, entry, ...passed)),
        enabled: 1,
        failures: 0,
        disabled_for: null,
        next_at
      })
    }
    const disable = (tx: Tx, entry: Entry, by: object): void => {
      note(tx, entry.row, "disabled", by)
      jobs.change(tx, entry, { enabled: 0 })
    }
    return { advance, disable, enable, note, pass }
  })

export type JobSteps = Effect.Effect.Success<ReturnType<typeof make>>
