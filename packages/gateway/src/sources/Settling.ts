import { Effect } from "effect"
import { Admission } from "../harness/Admission.ts"
import { supervise } from "../internal/Supervisor.ts"
import { EventBus } from "../records/EventBus.ts"
import { latestApproval, toEvent } from "../records/EventCodec.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store } from "../records/Store.ts"
import type { EventRow, RunRow } from "../records/Tables.ts"
import type { JobSteps } from "./JobSteps.ts"
import type { Entry, Jobs } from "./Jobs.ts"
import { endOf, type OpenSlot, type SlotEnd, type Slots } from "./Slots.ts"

/** Events looked at in one step. */
const PAGE = 500

/**
 * Ends the slots whose events have come to their end, and disables jobs whose runs fail. What ended is read from the records:
 * so it is the same for what the bus told and for what happened before a crash.
 */
export const make = (jobs: Jobs, slots: Slots, steps: JobSteps) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const bus = yield* EventBus
    const admission = yield* Admission
    /** Events to look at: of open slots, or after which a job was disabled. */
    const told = new Set<string>()
    const news = yield* Effect.makeLatch()
    const look = (eventId: string): void => {
      told.add(eventId)
      news.unsafeOpen()
    }

    const disable = (tx: Tx, entry: Entry, failures: number, end: SlotEnd, event: EventRow, run: RunRow): void => {
      const { agent_id: agentId, id: jobId, name } = entry.row
      const error = end.reason ?? "no reason given"
      steps.note(tx, entry.row, "disabled", { failures, error })
      jobs.change(tx, entry, { enabled: 0, failures, disabled_for: event.id })
      tx.publish({ _tag: "JobDisabled", at: tx.now, eventId: event.id, agentId, jobId, name, failures, error })
      // A run that was given up is asked about already.
      if (end.state === "abandoned") return
      admission.escalate(
        tx,
        {
          event: toEvent(event),
          agentId,
          payloadText: event.payload,
          taskDescription: run.task,
          runId: run.id,
          reason: `job "${name}" failed ${failures} times in a row and is disabled; ${error}; approve to try this again and to enable the job, deny to leave it disabled`
        },
        "disableAfterFailures"
      )
    }
    const settle = (ids: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        const events = new Map(
          (yield* store.find("events", { where: { id: { in: ids } } })).map((row) => [row.id, row])
        )
        const runIds = [...events.values()].flatMap(({ run_id }) => (run_id === null ? [] : [run_id]))
        const runs = new Map((yield* store.find("runs", { where: { id: { in: runIds } } })).map((row) => [row.id, row]))
        yield* journal.step((tx) => {
          const failures = new Map<string, number>()
          const open = ids.flatMap((id) => {
            const slot = slots.get(id)
            return slot === undefined ? [] : [[id, slot] as const]
          })
          // A job's failures are counted in the order of its instants.
          for (const [id, slot] of open.sort(([, a], [, b]) => a.at - b.at)) {
            const event = events.get(id)
            const run = runs.get(event?.run_id ?? "")
            const end = endOf(slot, event, run)
            if (end === undefined) continue
            slots.end(tx, id, slot, end)
            count(tx, failures, slot, end, event, run)
          }
        })
      })
    const count = (
      tx: Tx,
      counted: Map<string, number>,
      { jobId }: OpenSlot,
      end: SlotEnd,
      event: EventRow | undefined,
      run: RunRow | undefined
    ): void => {
      const entry = jobs.get(jobId)
      if (entry === undefined || end.state === "skipped") return
      const before = counted.get(jobId) ?? entry.row.failures
      const failures = end.failed ? before + 1 : 0
      counted.set(jobId, failures)
      const { disableAfterFailures: most } = entry.rules
      const isTooMany = most !== "never" && failures === most && entry.row.enabled === 1
      if (isTooMany && event !== undefined && run !== undefined) disable(tx, entry, failures, end, event, run)
      else if (failures !== before) jobs.change(tx, entry, { failures })
    }

    const disabledFor = (id: string): Entry | undefined => {
      for (const entry of jobs.values()) if (entry.row.disabled_for === id) return entry
      return undefined
    }
    /** Enables the job again that was disabled after this event's failure, when a person has approved of it. */
    const reconsider = (id: string) =>
      Effect.gen(function* () {
        if (disabledFor(id) === undefined) return
        const approval = latestApproval(yield* store.find("approvals", { where: { event_id: id } }))
        if (approval?.state !== "approved" || approval.run_id === null) return
        yield* journal.step((tx) => {
          const entry = disabledFor(id)
          if (entry !== undefined) steps.enable(tx, entry)
        })
      })

    const next = Effect.gen(function* () {
      yield* news.await
      const ids = [...told].slice(0, PAGE)
      for (const id of ids) told.delete(id)
      if (told.size === 0) news.unsafeClose()
      const work = Effect.zipRight(settle(ids), Effect.forEach(ids, reconsider, { discard: true }))
      yield* Effect.onError(work, () => Effect.sync(() => ids.forEach(look)))
    })
    yield* bus.listen((event) => {
      switch (event._tag) {
        case "ProactiveActionCompleted":
        case "ProactiveActionSuppressed":
        case "PolicyDecisionMade":
          if (slots.get(event.eventId) !== undefined) look(event.eventId)
          return
        case "ApprovalDecided":
          if (event.outcome === "approved") look(event.eventId)
          return
        default:
          return
      }
    })
    yield* supervise("slots", Effect.forever(next))

    return {
      /** Looks at everything that may have ended without the bus having told. */
      lookAtAll: (): void => {
        for (const id of slots.events()) look(id)
        for (const { row } of jobs.values()) if (row.disabled_for !== null) look(row.disabled_for)
      }
    }
  })
