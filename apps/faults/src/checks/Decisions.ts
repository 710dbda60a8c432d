import { type Check, group } from "../Books.ts"
import type { EventRow, RunRow } from "../Rows.ts"

/** Whether what became of an event is what follows from its decisions: how often it was let through, and kept from the agent. */
const isInOrder = (
  { run_id, state }: EventRow,
  runs: ReadonlyArray<RunRow>,
  { executed, skipped }: { readonly executed: number; readonly skipped: number }
): boolean => {
  const last = runs.at(-1)
  const before = runs.slice(0, -1)
  // Each run was decided once, and only what was abandoned had another.
  if (executed !== runs.length || before.some((run) => run.state !== "abandoned")) return false
  switch (state) {
    case "executed":
      return (
        skipped === 0 &&
        last !== undefined &&
        last.id === run_id &&
        last.state !== "abandoned" &&
        last.state !== "merged"
      )
    case "suppressed":
      return skipped === 1 && (last === undefined || last.state === "abandoned")
    case "denied":
      return skipped === 0 && (last === undefined || last.state === "abandoned")
    case "merged":
      return skipped === 0 && runs.length <= 1 && (last === undefined || last.state === "merged")
    default:
      return false
  }
}

const FINAL: ReadonlySet<string> = new Set(["executed", "suppressed", "denied", "merged"])

/** Every event has its final decision, recorded, and what follows from it. */
export const checkDecisions: Check = ({ rows }, records) => {
  const found: Array<string> = []
  const decided = group(
    records.filter(({ kind }) => kind === "event.decided"),
    ({ eventId }) => eventId
  )
  const runsOf = group(rows.runs, ({ event_id }) => event_id)
  const approvalsOf = group(rows.approvals, ({ event_id }) => event_id)
  const byId = new Map(rows.events.map((event) => [event.id, event]))
  for (const event of rows.events) {
    const { id, merged_into, state } = event
    const decisions = (decided.get(id) ?? []).map(({ data }) => data.action)
    const runs = runsOf.get(id) ?? []
    const counts = {
      executed: decisions.filter((action) => action === "execute").length,
      skipped: decisions.filter((action) => action === "skip").length
    }
    if (!FINAL.has(state)) found.push(`${id} is still ${state} after a clean start came to rest`)
    else if (!isInOrder(event, runs, counts)) {
      const states = runs.map((run) => run.state).join()
      found.push(`${id} is ${state} and has ${JSON.stringify({ ...counts, runs: runs.length })} ${states}`)
    }
    if (decisions.length === 0) found.push(`${id} is ${state}, and no decision is recorded`)
    const last = approvalsOf.get(id)?.at(-1)
    if ((state === "denied") !== (last !== undefined && last.state !== "approved")) {
      found.push(`${id} is ${state}, and its approval ${last?.state ?? "is not there"}`)
    }
    const leader = merged_into === null ? undefined : byId.get(merged_into)
    if (state === "merged" && (leader === undefined || leader.state === "merged")) {
      found.push(`${id} is merged into ${merged_into}, which leads nothing`)
    }
  }
  for (const { event_id, id } of rows.runs) if (!byId.has(event_id)) found.push(`${id} is the run of no event`)
  return found
}
