import { Effect } from "effect"
import type { GatewayEvent } from "../../domain/GatewayEvent.ts"
import { firstIdAt } from "../../domain/Ids.ts"
import { toLazyEvent } from "../../records/EventCodec.ts"
import type { Condition, StoreError, StoreShape } from "../../records/Store.ts"
import type { DecisionRow } from "../../records/Tables.ts"
import {
  APPROVAL_COLUMNS,
  type ApprovalPart,
  DECISION_COLUMNS,
  EVENT_COLUMNS,
  type EventPart,
  factsOf,
  type Occasion,
  occasionOf,
  onlyOccasion,
  RUN_COLUMNS,
  type RunPart,
  type Subject,
  unreadable
} from "./Subject.ts"

/** Rows read at a time. */
const PAGE = 2_000

const grouped = <A extends { readonly event_id: string }>(rows: ReadonlyArray<A>): ReadonlyMap<string, Array<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const row of rows) {
    const group = groups.get(row.event_id)
    if (group === undefined) groups.set(row.event_id, [row])
    else group.push(row)
  }
  return groups
}
/** Ids sort by the order they were made in: between those of a page are hardly any others. */
const bounds = (rows: ReadonlyArray<EventPart>): Condition<string> => {
  let [gte, lte] = [rows[0]?.id ?? "", rows[0]?.id ?? ""]
  for (const { id } of rows) {
    if (id < gte) gte = id
    if (id > lte) lte = id
  }
  return { gte, lte }
}
const NONE: ReadonlyArray<never> = []
const LAST = Number.MAX_SAFE_INTEGER

const eventOf = (row: EventPart): GatewayEvent => {
  try {
    return toLazyEvent(row)
  } catch (cause) {
    throw unreadable(`event ${row.id}`, cause)
  }
}

/** Whether another decision on the event is not to be expected. */
const isLast = ({ action, at, due_at }: DecisionRow, subject: Subject | undefined): boolean => {
  if (action === "queue") return false
  if (action === "merge") return due_at === null
  if (action !== "escalate") return true
  const answer = subject?.approvals.at(-1)
  return (answer?.state === "denied" || answer?.state === "expired") && answer.requested_at === at
}

/** A part of the history, in order. */
export interface Part {
  readonly occasions: Iterable<Occasion>
  /** Events that came in it. */
  readonly events: number
  readonly runs: ReadonlyArray<RunPart>
}

/**
 * Reads what was decided on the events received from `from` until before `to`, Unix milliseconds, a page at a time.
 *
 * No generator function is made in the course of it: each that is called leaves a hidden class behind, which keeps the page it
 * was made for until the next full collection.
 */
export const make = (
  store: StoreShape,
  {
    from,
    to,
    known
  }: { readonly from: number; readonly to: number; readonly known: (id: string) => Subject | undefined }
) => {
  /** Events that were not decided for good when they came, until they are. */
  const open = new Map<string, Subject>()
  const isInRange = ({ received_at }: EventPart): boolean => received_at >= from && received_at < to

  /** Reads what was run and asked for these events, whose ids are `among`. Makes a subject of each when it comes to it: most are not kept. */
  const subjectsOf = Effect.fnUntraced(function* (rows: ReadonlyArray<EventPart>, among: Condition<string>) {
    const where = { event_id: among }
    const runs = rows.length === 0 ? NONE : yield* store.view("runs", { columns: RUN_COLUMNS, where })
    const approvals = rows.some(({ held }) => held === 1)
      ? yield* store.view("approvals", { columns: APPROVAL_COLUMNS, where })
      : NONE
    const [runsOf, approvalsOf] = [grouped<RunPart>(runs), grouped<ApprovalPart>(approvals)]
    const subjectOf = (row: EventPart): Subject => ({
      id: row.id,
      agentId: row.agent_id,
      event: eventOf(row),
      row,
      // Ids are in the order they were made.
      runs: runsOf.get(row.id)?.sort((a, b) => (a.id < b.id ? -1 : 1)) ?? NONE,
      approvals: approvalsOf.get(row.id)?.sort((a, b) => a.requested_at - b.requested_at) ?? NONE,
      facts: undefined,
      differs: false,
      recorded: "gone",
      replayed: "gone",
      recordedRuns: 0,
      replayedRuns: 0,
      joined: 0,
      merged: null,
      approval: null,
      until: undefined
    })
    const runsInOrder = rows.flatMap(({ id }): ReadonlyArray<RunPart> => runsOf.get(id) ?? NONE)
    return { runs: runsInOrder, subjectOf }
  })
  /** Decisions on events that were decided for good before, such as those of which a run was abandoned. */
  const reopened = Effect.fnUntraced(function* (
    decisions: ReadonlyArray<DecisionRow>,
    seqs: readonly [number, number]
  ) {
    const ids = [...new Set(decisions.map(({ event_id }) => event_id))].filter((id) => !open.has(id))
    const found: Array<string> = []
    for (const id of ids) {
      const subject = known(id)
      if (subject === undefined) found.push(id)
      else open.set(id, subject)
    }
    if (found.length === 0) return
    const where = { id: { in: found }, seq: { gte: seqs[0], lte: seqs[1] } }
    const rows = (yield* store.view("events", { columns: EVENT_COLUMNS, where })).filter(isInRange)
    const before = yield* store.find("decisions", {
      where: { event_id: { in: rows.map(({ id }) => id) }, seq: { lt: decisions[0]?.seq ?? 0 } }
    })
    const past = grouped([...before].sort((a, b) => a.seq - b.seq))
    const { subjectOf } = yield* subjectsOf(rows, { in: found })
    for (const row of rows) {
      const decided = past.get(row.id) ?? []
      const runs = decided.filter(({ action }) => action === "execute").length
      const subject = subjectOf(row)
      const facts = decided[0] && factsOf({ ...decided[0], subject })
      open.set(row.id, Object.assign(subject, { facts, recordedRuns: runs, replayedRuns: runs }))
    }
  })
  /** These decisions, those on what is open and those on what arrives, in order. */
  const occasionsOf = function* (
    arriving: ReadonlyArray<EventPart>,
    decisions: ReadonlyArray<DecisionRow>,
    subjectOf: (row: EventPart) => Subject
  ): Iterable<Occasion> {
    let next = 0
    const decided = (seq: number): Occasion | undefined => {
      for (let row = decisions[next]; row !== undefined && row.seq < seq; row = decisions[next]) {
        next += 1
        const subject = open.get(row.event_id)
        if (subject !== undefined) return occasionOf(subject, row)
      }
      return undefined
    }
    for (const row of arriving) {
      for (let again = decided(row.accepted_seq); again !== undefined; again = decided(row.accepted_seq)) yield again
      const only = row.held === 0 ? onlyOccasion(subjectOf(row)) : undefined
      if (only !== undefined) yield only
    }
    for (let again = decided(LAST); again !== undefined; again = decided(LAST)) yield again
  }

  /** The parts of the history, each given to `then`. */
  return <E, R>(then: (part: Part) => Effect.Effect<void, E, R>): Effect.Effect<void, E | StoreError, R> =>
    Effect.gen(function* () {
      const edge = (order: "asc" | "desc", id: { readonly gte: string } | { readonly lt: string }) =>
        Effect.map(
          store.find("events", { columns: ["seq", "accepted_seq"], where: { id }, orderBy: ["id", order], limit: 1 }),
          ([row]) => row
        )
      const first = yield* edge("asc", { gte: firstIdAt("evt", from) })
      const last = yield* edge("desc", { lt: firstIdAt("evt", to) })
      if (first === undefined || last === undefined) return
      const seqs = [first.seq, last.seq] as const
      let after = first.seq - 1
      let order = first.accepted_seq - 1
      while (true) {
        const rows = yield* store.view("events", {
          columns: EVENT_COLUMNS,
          where: { seq: { gt: after, lte: last.seq } },
          orderBy: ["seq", "asc"],
          limit: PAGE
        })
        const coming = rows.filter(isInRange)
        const { runs, subjectOf } = yield* subjectsOf(coming, bounds(coming))
        after = rows.at(-1)?.seq ?? after
        // After the last event come the decisions on what is still held.
        const until = rows.length === 0 ? LAST : (rows.at(-1)?.accepted_seq ?? order)
        let came = 0
        let counted = false
        while (true) {
          const decisions = yield* store.view("decisions", {
            columns: DECISION_COLUMNS,
            where: { seq: { gt: order, lte: until } },
            orderBy: ["seq", "asc"],
            limit: PAGE
          })
          const upTo = decisions.length < PAGE ? until : (decisions.at(-1)?.seq ?? until)
          const arrived = came
          while ((coming[came]?.accepted_seq ?? Number.POSITIVE_INFINITY) <= upTo) came += 1
          const arriving = coming.slice(arrived, came)
          for (const row of arriving) if (row.held === 1) open.set(row.id, subjectOf(row))
          yield* reopened(decisions, seqs)
          yield* then({
            occasions: occasionsOf(arriving, decisions, subjectOf),
            events: arriving.length,
            runs: counted ? NONE : runs
          })
          counted = true
          for (const decision of decisions) {
            if (isLast(decision, open.get(decision.event_id))) open.delete(decision.event_id)
          }
          order = upTo
          if (upTo === until) break
        }
        if (rows.length === 0) return
      }
    })
}
