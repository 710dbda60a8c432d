import { type AuditRecord, checkChain, checkExport, recordsOf } from "./AuditChain.ts"
import { MAX_ATTEMPTS } from "./Protocol.ts"
import type { EventRow, Rows } from "./Rows.ts"
import type { Witness } from "./Witness.ts"

/** What the last, clean life of the server said of its ledger once it had come to rest. */
export interface LedgerSaid {
  readonly used: number
  readonly reserved: number
  /** Unix milliseconds. */
  readonly resetsAt: number
}

export interface Books {
  readonly rows: Rows
  readonly witness: Witness
  /** Lines of the exported audit. */
  readonly exported: ReadonlyArray<string>
  readonly ledger: LedgerSaid
}

const DAY = 86_400_000
const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "abandoned", "cancelled"])

const group = <A>(items: ReadonlyArray<A>, by: (item: A) => string | null): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const item of items) {
    const key = by(item) ?? ""
    const found = groups.get(key)
    if (found === undefined) groups.set(key, [item])
    else found.push(item)
  }
  return groups
}

/** The key that what was sent had, wherever its door puts it. */
const keyOf = ({ payload }: EventRow): string | undefined => {
  const body = JSON.parse(payload) as { readonly key?: unknown; readonly text?: unknown }
  const key = body.key ?? body.text
  return typeof key === "string" ? key : undefined
}

/** Accepted means kept, a duplicate is the first one, a refusal is a refusal. */
const checkPromises = ({ rows, witness }: Books): ReadonlyArray<string> => {
  const found: Array<string> = []
  const byId = new Map(rows.events.map((event) => [event.id, event]))
  const byKey = group(rows.events, (event) => keyOf(event) ?? null)
  for (const [key, eventId] of witness.accepted) {
    const event = byId.get(eventId)
    if (event === undefined) found.push(`${key} was acknowledged as ${eventId} and is not there`)
    else if (keyOf(event) !== key) found.push(`${key} was acknowledged as ${eventId}, which is ${keyOf(event)}`)
  }
  for (const { eventId, key } of witness.repeated) {
    const [first] = byKey.get(key) ?? []
    if (first?.id !== eventId) found.push(`${key}, sent again, was answered with ${eventId} and is ${first?.id}`)
  }
  for (const [key, events] of byKey) {
    if (key !== "" && events.length > 1) found.push(`${key} is there ${events.length} times`)
  }
  for (const key of witness.refused) if (byKey.has(key)) found.push(`${key} was refused and is there`)
  const crons = group(rows.events, ({ dedupe_key, source }) => (source === "cron" ? dedupe_key : null))
  for (const [instant, events] of crons) {
    if (instant !== "" && events.length > 1) found.push(`${instant} fired ${events.length} times`)
  }
  return found
}

const FINAL: ReadonlySet<unknown> = new Set(["execute", "skip"])
const EXPECTED: Readonly<Record<string, { readonly final: number; readonly denied: number; readonly runs: number }>> = {
  executed: { final: 1, denied: 0, runs: 1 },
  suppressed: { final: 1, denied: 0, runs: 0 },
  merged: { final: 0, denied: 0, runs: 0 },
  denied: { final: 0, denied: 1, runs: 0 }
}

/** Every event has exactly one final decision, recorded, and what follows from it. */
const checkDecisions = ({ rows }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const recorded = group(records, ({ eventId }) => eventId)
  const runs = group(rows.runs, ({ event_id }) => event_id)
  const byId = new Map(rows.events.map((event) => [event.id, event]))
  for (const { id, merged_into, state } of rows.events) {
    const decisions = (recorded.get(id) ?? []).filter(({ kind }) => kind === "event.decided")
    const answers = (recorded.get(id) ?? []).filter(({ kind }) => kind === "approval.decided")
    const counts = {
      final: decisions.filter(({ data }) => FINAL.has(data.action)).length,
      denied: answers.filter(({ data }) => data.outcome !== "approved").length,
      runs: runs.get(id)?.length ?? 0
    }
    const expected = EXPECTED[state]
    if (expected === undefined) found.push(`${id} is still ${state} after a clean start came to rest`)
    else if (JSON.stringify(expected) !== JSON.stringify(counts)) {
      found.push(`${id} is ${state} and has ${JSON.stringify(counts)}`)
    }
    if (decisions.length === 0) found.push(`${id} is ${state}, and no decision is recorded`)
    const leader = merged_into === null ? undefined : byId.get(merged_into)
    if (state === "merged" && (leader === undefined || leader.state === "merged")) {
      found.push(`${id} is merged into ${merged_into}, which leads nothing`)
    }
  }
  for (const { event_id, id } of rows.runs) if (!byId.has(event_id)) found.push(`${id} is the run of no event`)
  return found
}

/** Each attempt is counted and recorded before the agent is called, and none is made twice; each run ends once. */
const checkRuns = ({ rows, witness }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const started = group(
    records.filter(({ kind }) => kind === "run.started"),
    ({ data }) => String(data.runId)
  )
  const ended = group(
    records.filter(({ kind }) => kind === "run.ended"),
    ({ data }) => String(data.runId)
  )
  const calls = group(witness.calls, ({ runId }) => runId)
  for (const { attempt, id, state } of rows.runs) {
    const attempts = (started.get(id) ?? []).map(({ data }) => data.attempt)
    const ends = (ended.get(id) ?? []).map(({ data }) => data.state)
    const made = (calls.get(id) ?? []).map((call) => call.attempt)
    if (!ENDED.has(state)) found.push(`run ${id} is still ${state} after a clean start came to rest`)
    if (attempt > MAX_ATTEMPTS) found.push(`run ${id} had ${attempt} attempts`)
    if (attempts.join() !== Array.from({ length: attempt }, (_, n) => n + 1).join()) {
      found.push(`run ${id} had ${attempt} attempts; recorded: ${attempts.join()}`)
    }
    if (ends.join() !== state) found.push(`run ${id} is ${state}; recorded ends: ${ends.join()}`)
    if (new Set(made).size !== made.length || made.some((n) => n > attempt)) {
      found.push(`run ${id} had ${attempt} attempts; its agent was called for ${made.join()}`)
    }
    if (state === "completed" && made.at(-1) !== attempt) found.push(`run ${id} completed without a call`)
  }
  const known = new Map(rows.runs.map((run) => [run.id, run.event_id]))
  for (const { eventId, runId } of witness.calls) {
    if (known.get(runId) !== eventId) found.push(`an agent was called for ${eventId} by ${runId}, which is not there`)
  }
  return found
}

/** One answer counts, and everyone was told that one; what was denied never reached an agent. */
const checkApprovals = ({ rows, witness }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const byId = new Map(rows.approvals.map((approval) => [approval.id, approval]))
  const decided = group(
    records.filter(({ kind }) => kind === "approval.decided"),
    ({ data }) => String(data.approvalId)
  )
  const called = new Set(witness.calls.map(({ eventId }) => eventId))
  const completed = group(
    rows.runs.filter(({ state }) => state === "completed"),
    ({ event_id }) => event_id
  )
  const stateOf = new Map(rows.events.map(({ id, state }) => [id, state]))
  for (const { decided_by, event_id, id, state } of rows.approvals) {
    const answers = (decided.get(id) ?? []).map(({ data }) => `${data.outcome} by ${data.by}`)
    if (answers.join() !== (state === "pending" ? "" : `${state} by ${decided_by}`)) {
      found.push(`approval ${id} is ${state} by ${decided_by}; recorded: ${answers.join()}`)
    }
    if (state !== "approved" && called.has(event_id)) found.push(`approval ${id} is ${state}, and its event ran`)
    if (state === "approved" && stateOf.get(event_id) === "denied") found.push(`${event_id} is approved and denied`)
    if ((completed.get(event_id)?.length ?? 0) > 1) found.push(`${event_id} ran twice`)
  }
  for (const { approvalId, by, state, status } of witness.verdicts) {
    const actual = byId.get(approvalId)?.state
    if ((status === 200) !== (actual === state)) {
      found.push(`approval ${approvalId} is ${actual}; ${by} was answered ${status} to ${state}`)
    }
  }
  return found
}

/** Turns stand in the order their events were kept in, and what was answered before something was said comes before it. */
const checkSessions = ({ rows, witness }: Books): ReadonlyArray<string> => {
  const found: Array<string> = []
  const seqOf = new Map(rows.events.map(({ id, seq }) => [id, seq]))
  const runOf = new Map(rows.runs.map((run) => [run.event_id, run]))
  for (const [session, turns] of group(rows.turns, ({ session_key }) => session_key)) {
    let last = 0
    for (let i = 0; i < turns.length; i += 2) {
      const [user, assistant] = [turns[i], turns[i + 1]]
      const seq = seqOf.get(user?.event_id ?? "") ?? -1
      if (user?.role !== "user" || assistant?.role !== "assistant" || user.event_id !== assistant.event_id) {
        found.push(`session ${session}: turn ${user?.seq} is not a message with its answer`)
      }
      if (seq <= last) found.push(`session ${session}: event ${seq} was answered after ${last}`)
      last = seq
    }
  }
  const turns = group(rows.turns, ({ event_id }) => event_id)
  for (const { id, session_key, state } of rows.events) {
    const expected = session_key !== null && state === "executed" && runOf.get(id)?.state === "completed" ? 2 : 0
    const actual = turns.get(id)?.length ?? 0
    if (actual !== expected) found.push(`${id} has ${actual} turns, not ${expected}`)
  }
  for (const { eventId, key, reply } of witness.heard) {
    const text = runOf.get(eventId)?.text ?? null
    if (text !== reply) found.push(`${key} was answered ${JSON.stringify(reply)}; recorded: ${JSON.stringify(text)}`)
  }
  for (const conversation of group(witness.heard, ({ chatId, sender }) => `${sender} ${chatId}`).values()) {
    let answered = { at: Number.NEGATIVE_INFINITY, seq: 0 }
    for (const { answeredAt, eventId, key, sentAt } of conversation) {
      const seq = seqOf.get(eventId) ?? 0
      if (sentAt > answered.at && seq < answered.seq) found.push(`${key} stands before what was answered before it`)
      if (seq > answered.seq) answered = { at: answeredAt, seq }
    }
  }
  return found
}

/** What the server says it has used is what the file's runs of that day used. */
const checkLedger = ({ ledger, rows }: Books): ReadonlyArray<string> => {
  const today = rows.runs.filter(({ created_at }) => created_at >= ledger.resetsAt - DAY)
  const sum = today
    .filter(({ state }) => ENDED.has(state))
    .reduce((total, { input_tokens, output_tokens }) => total + input_tokens + output_tokens, 0)
  return [
    ...(sum === ledger.used ? [] : [`the ledger says ${ledger.used} tokens were used; the runs say ${sum}`]),
    ...(ledger.reserved === 0 ? [] : [`${ledger.reserved} tokens are reserved, and nothing runs`])
  ]
}

/** Every start and every switch that was told is in the audit, and the switches stand as it says. */
const checkRecorded = ({ rows, witness }: Books, records: ReadonlyArray<AuditRecord>): ReadonlyArray<string> => {
  const starts = records.filter(({ kind }) => kind === "gateway.started").length
  const thrown = records.filter(({ kind }) => kind === "switch.changed")
  const modes = new Map(thrown.map(({ data }) => [data.scope, data.mode]))
  return [
    ...(starts < witness.starts ? [`${witness.starts} starts, of which ${starts} are recorded`] : []),
    ...(thrown.length < witness.switches ? [`${witness.switches} switches, recorded: ${thrown.length}`] : []),
    ...rows.switches.flatMap(({ mode, scope }) =>
      modes.get(scope) === mode ? [] : [`${scope} is ${mode}; recorded: ${String(modes.get(scope))}`]
    )
  ]
}

/** Everything that is wrong with the books; nothing, when they are in order. */
export const check = (books: Books): ReadonlyArray<string> => {
  const { exported, rows } = books
  const damage = rows.integrity === "ok" ? [] : [`integrity_check: ${rows.integrity}`]
  const records = recordsOf(rows.audit)
  return [
    ...damage,
    ...checkChain(rows.audit),
    ...checkExport(exported, rows.audit),
    ...checkPromises(books),
    ...checkDecisions(books, records),
    ...checkRuns(books, records),
    ...checkApprovals(books, records),
    ...checkSessions(books),
    ...checkLedger(books),
    ...checkRecorded(books, records)
  ]
}
