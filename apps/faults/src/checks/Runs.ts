import type { AuditRecord } from "../AuditChain.ts"
import { type Books, type Check, ENDED, isSuperseded, keyOf, ofRuns } from "../Books.ts"
import type { RunRow } from "../Rows.ts"

/** Nothing is cancelled but by what is allowed to. */
const checkCancelled = ({ rows, rules }: Books, records: ReadonlyArray<AuditRecord>, run: RunRow): boolean => {
  if (isSuperseded(run)) {
    const own = rows.events.find(({ id }) => id === run.event_id)
    const isNewer = rows.events.some(
      ({ seq, session_key }) => session_key === own?.session_key && seq > (own?.seq ?? 0)
    )
    return rules.whenBusy === "interrupt" && own?.session_key != null && isNewer
  }
  if (run.error?.startsWith("dropped")) {
    return (
      rules.overflow === "drop-oldest" &&
      records.some(
        ({ data, eventId, kind }) =>
          kind === "session.overflowed" && data.outcome === "dropped" && eventId === run.event_id
      )
    )
  }
  return records.some(({ data, kind }) => kind === "switch.changed" && data.mode === "terminated")
}

/** What one run took over of others is in what it was asked, and nobody else has it. */
const checkMerged = ({ rows }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const merged = ofRuns(records, "run.merged")
  const runs = new Map(rows.runs.map((run) => [run.id, run]))
  const events = new Map(rows.events.map((event) => [event.id, event]))
  for (const { attempt, event_id, id, state } of rows.runs) {
    const into = (merged.get(id) ?? []).map(({ data }) => runs.get(String(data.into)))
    if (into.length !== (state === "merged" ? 1 : 0))
      found.push(`run ${id} is ${state}; recorded: ${into.length} merges`)
    const [leader] = into
    if (leader === undefined) continue
    const event = events.get(event_id)
    if (event?.merged_into !== leader.event_id) {
      found.push(`run ${id} was taken over for ${leader.event_id}, and its event for ${event?.merged_into}`)
    }
    if (attempt > 0) found.push(`run ${id} was begun, and taken over all the same`)
    const key = event === undefined ? undefined : keyOf(event)
    if (key !== undefined && !leader.task.includes(key))
      found.push(`${key} is not in the task of the run it is merged into`)
  }
  return found
}

/** Each attempt is counted and recorded before the agent is called, and none is made twice; each run ends once. */
export const checkRuns: Check = (books, records) => {
  const { rows, rules, witness } = books
  const found: Array<string> = []
  const started = ofRuns(records, "run.started")
  const ended = ofRuns(records, "run.ended")
  const escalated = ofRuns(records, "run.escalated")
  const retried = ofRuns(records, "run.retrying")
  const calls = new Map<string, Array<number>>()
  for (const { attempt, runId } of witness.calls) calls.set(runId, [...(calls.get(runId) ?? []), attempt])
  for (const run of rows.runs) {
    const { attempt, id, input_tokens, output_tokens, state } = run
    const attempts = (started.get(id) ?? []).map(({ data }) => data.attempt)
    const ends = (ended.get(id) ?? []).map(({ data }) => data.state)
    const made = calls.get(id) ?? []
    if (!ENDED.has(state)) found.push(`run ${id} is still ${state} after a clean start came to rest`)
    if (attempt > rules.maxAttempts) found.push(`run ${id} had ${attempt} attempts`)
    if (attempts.join() !== Array.from({ length: attempt }, (_, n) => n + 1).join()) {
      found.push(`run ${id} had ${attempt} attempts; recorded: ${attempts.join()}`)
    }
    if (ends.join() !== (state === "merged" ? "" : state)) {
      found.push(`run ${id} is ${state}; recorded ends: ${ends.join()}`)
    }
    if (new Set(made).size !== made.length || made.some((n) => n > attempt)) {
      found.push(`run ${id} had ${attempt} attempts; its agent was called for ${made.join()}`)
    }
    if (state === "completed" && made.at(-1) !== attempt) found.push(`run ${id} completed without a call`)
    const spent = (retried.get(id) ?? []).reduce(
      (sum, { data }) => sum + Number(data.inputTokens) + Number(data.outputTokens),
      0
    )
    if (input_tokens + output_tokens < spent) {
      found.push(
        `run ${id} used ${spent} tokens before its last attempt, and is charged ${input_tokens + output_tokens}`
      )
    }
    if (state === "cancelled" && !checkCancelled(books, records, run)) {
      found.push(`run ${id} is cancelled, and nothing cancelled it: ${run.error}`)
    }
    if (state === "abandoned" && rules.onCrash === "retry" && attempt < rules.maxAttempts) {
      found.push(`run ${id} was abandoned after ${attempt} attempts of ${rules.maxAttempts}`)
    }
    if ((escalated.get(id) ?? []).length !== (state === "abandoned" ? 1 : 0)) {
      found.push(`run ${id} is ${state}, and a person was asked ${escalated.get(id)?.length ?? 0} times`)
    }
  }
  const known = new Map(rows.runs.map((run) => [run.id, run.event_id]))
  for (const { eventId, runId } of witness.calls) {
    if (known.get(runId) !== eventId) found.push(`an agent was called for ${eventId} by ${runId}, which is not there`)
  }
  return [...found, ...checkMerged(books, records)]
}
