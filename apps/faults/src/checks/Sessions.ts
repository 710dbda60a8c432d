import { type Books, type Check, group, isSuperseded } from "../Books.ts"
import type { RunRow } from "../Rows.ts"

/** Turns stand in the order their events were kept in: a message, and its answer when it had one. */
const checkTurns = ({ rows }: Books, runsOf: ReadonlyMap<string, ReadonlyArray<RunRow>>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const seqOf = new Map(rows.events.map(({ id, seq }) => [id, seq]))
  for (const [session, turns] of group(rows.turns, ({ session_key }) => session_key)) {
    let last = 0
    for (let i = 0; i < turns.length; i += 1) {
      const user = turns[i]
      const eventId = user?.event_id ?? ""
      const run = runsOf.get(eventId)?.at(-1)
      if (user?.role !== "user" || user.content !== run?.task) {
        found.push(`session ${session}: turn ${user?.seq} is not what its run was asked`)
      }
      if (run === undefined || !isSuperseded(run)) {
        i += 1
        const answer = turns[i]
        if (answer?.role !== "assistant" || answer.event_id !== eventId || answer.content !== run?.text) {
          found.push(`session ${session}: turn ${user?.seq} is not a message with its answer`)
        }
      }
      // What a person let be tried again comes after what was said since.
      if ((runsOf.get(eventId)?.length ?? 0) > 1) continue
      const seq = seqOf.get(eventId) ?? -1
      if (seq <= last) found.push(`session ${session}: event ${seq} was answered after ${last}`)
      last = seq
    }
  }
  return found
}

/** What was answered, was answered with what is recorded; and before something was said, comes before it. */
const checkHeard = ({ rows, witness }: Books, runsOf: ReadonlyMap<string, ReadonlyArray<RunRow>>) => {
  const found: Array<string> = []
  const byId = new Map(rows.events.map((event) => [event.id, event]))
  for (const { eventId, key, reply } of witness.heard) {
    const run = runsOf.get(eventId)?.at(-1)
    const leader = byId.get(eventId)?.merged_into ?? ""
    const text = (run?.state === "merged" ? runsOf.get(leader)?.at(-1)?.text : run?.text) ?? null
    if (text !== reply) found.push(`${key} was answered ${JSON.stringify(reply)}; recorded: ${JSON.stringify(text)}`)
  }
  for (const conversation of group(witness.heard, ({ chatId, sender }) => `${sender} ${chatId}`).values()) {
    let answered = { at: Number.NEGATIVE_INFINITY, seq: 0 }
    for (const { answeredAt, eventId, key, sentAt } of conversation) {
      const seq = byId.get(eventId)?.seq ?? 0
      if (sentAt > answered.at && seq < answered.seq) found.push(`${key} stands before what was answered before it`)
      if (seq > answered.seq) answered = { at: answeredAt, seq }
    }
  }
  return found
}

/** Conversations: in order, whole, and as they were heard. */
export const checkSessions: Check = (books) => {
  const { rows } = books
  const found: Array<string> = []
  const runsOf = group(rows.runs, ({ event_id }) => event_id)
  const turns = group(rows.turns, ({ event_id }) => event_id)
  for (const { id, session_key } of rows.events) {
    const run = runsOf.get(id)?.at(-1)
    const isKept = session_key !== null && run !== undefined
    const expected = isKept && run.state === "completed" ? 2 : isKept && isSuperseded(run) ? 1 : 0
    const actual = turns.get(id)?.length ?? 0
    if (actual !== expected) found.push(`${id} has ${actual} turns, not ${expected}`)
  }
  return [...found, ...checkTurns(books, runsOf), ...checkHeard(books, runsOf)]
}
