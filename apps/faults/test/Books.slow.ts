import { copyFileSync } from "node:fs"
import Database from "better-sqlite3"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Books, isSuperseded } from "../src/Books.ts"
import { check } from "../src/Check.ts"
import * as Disk from "../src/Disk.ts"
import type { Rules } from "../src/Protocol.ts"
import { type Plan, plan, run, say } from "../src/Round.ts"
import * as Rows from "../src/Rows.ts"

const RULES: Rules = {
  dailyTokenBudget: "unlimited",
  whenBusy: "collect",
  overflow: "drop-oldest",
  approvers: 2,
  maxAttempts: 1,
  onCrash: "retry",
  whenStopped: "refuse",
  maxUncleanStarts: "unlimited"
}

/** Two lives of so many milliseconds, and no faults but a kill. */
const calm = (rules: Rules, after: number): Plan => ({
  seed: 1,
  lives: [
    { faults: [], end: { after, signal: "SIGKILL" }, early: false, resumes: false },
    { faults: [], end: { after, signal: "SIGTERM" }, early: false, resumes: false }
  ],
  shift: 0,
  rules
})

/** Whether the second life began a run. */
const ranLater = ({ rows }: Books): boolean => {
  const [, second] = rows.audit.filter(({ kind }) => kind === "gateway.started")
  return rows.audit.some(({ kind, seq }) => kind === "run.started" && second !== undefined && seq > second.seq)
}

/** Whether there is enough of everything to have something to tamper with. */
const isRich = (books: Books): boolean => ranLater(books) && isVaried(books)
const isVaried = ({ rows, witness }: Books): boolean =>
  witness.promises > 20 &&
  witness.repeated.length > 0 &&
  witness.verdicts.length > 0 &&
  witness.heard.length > 0 &&
  rows.approvals.some(({ consumed_by, run_id }) => run_id === null && consumed_by !== null) &&
  rows.approvals.some(({ run_id }) => run_id !== null) &&
  rows.turns.length > 2 &&
  rows.runs.some(({ error }) => error?.startsWith("dropped")) &&
  rows.runs.some(({ state }) => state === "merged")

const isInterrupted = ({ rows }: Books): boolean => rows.runs.some(isSuperseded) && rows.turns.length > 2

const disk = Disk.make()
afterAll(disk.remove)

/** Books that are in order, and the file they are of. */
interface Honest {
  readonly file: string
  readonly books: Books
}
let honest: Honest
/** Those of sessions in which what is newer interrupts. */
let interrupted: Honest

const keep = async (rules: Rules, isEnough: (books: Books) => boolean): Promise<Honest> => {
  let kept: Honest | undefined
  // A busy machine gets less done in the same time.
  for (const after of [1_000, 4_000, 15_000]) {
    const { books, file, found } = await run(calm(rules, after), disk, `${rules.whenBusy}-${after}`)
    if (books === undefined) throw new Error(found.join("\n"))
    kept = { books, file }
    if (isEnough(books)) return kept
  }
  if (kept === undefined) throw new Error("nothing was run")
  return kept
}

beforeAll(async () => {
  honest = await keep(RULES, isRich)
  interrupted = await keep({ ...RULES, whenBusy: "interrupt" }, isInterrupted)
}, 240_000)

/** What is found in a copy of the books after somebody was at them. */
const after = ({ books, file }: Honest, ...statements: ReadonlyArray<string>): ReadonlyArray<string> => {
  const copy = `${file}.tampered`
  copyFileSync(file, copy)
  const db = new Database(copy)
  let changes = 0
  const [heard] = books.witness.heard
  for (const statement of statements) {
    changes += db.prepare(statement.replace(HEARD, `'${heard?.eventId}'`)).run().changes
  }
  db.close()
  expect(changes).toBeGreaterThan(0)
  return check({ ...books, rows: Rows.read(copy) })
}

const ONE_COMPLETED = "(SELECT id FROM runs WHERE state = 'completed' LIMIT 1)"
const ONE_MERGED = "(SELECT id FROM runs WHERE state = 'merged' LIMIT 1)"
const ONE_ABANDONED = "(SELECT id FROM runs WHERE state = 'abandoned' LIMIT 1)"
const ONE_USED = "(SELECT id FROM approvals WHERE consumed_by IS NOT NULL AND run_id IS NULL LIMIT 1)"
const SECOND_START = "(SELECT seq FROM audit WHERE kind = 'gateway.started' LIMIT 1 OFFSET 1)"
/** In a statement: the id of a message that was answered. */
const HEARD = ":heard"

describe("the check of the books", () => {
  it("finds nothing wrong with books that are in order, and they are not empty", () => {
    expect(check(honest.books)).toEqual([])
    expect(isRich(honest.books)).toBe(true)
    expect(check(interrupted.books)).toEqual([])
    expect(isInterrupted(interrupted.books)).toBe(true)
  })

  const tampering: ReadonlyArray<readonly [what: string, found: RegExp, ...statements: ReadonlyArray<string>]> = [
    ["an event is lost", /was acknowledged as .* and is not there/, `DELETE FROM events WHERE id = ${HEARD}`],
    [
      "an event is another than it was acknowledged as",
      /was acknowledged as .*, which is other/,
      `UPDATE events SET payload = '{"text":"other"}' WHERE id = ${HEARD}`
    ],
    [
      "an event is undecided",
      /is still accepted after a clean start/,
      `UPDATE events SET state = 'accepted' WHERE id = ${HEARD}`
    ],
    ["a run is lost", /is executed and has .*"runs":0/, `DELETE FROM runs WHERE id = ${ONE_COMPLETED}`],
    [
      "a run is there twice",
      /is executed and has .*"runs":2/,
      "CREATE TEMP TABLE twice AS SELECT * FROM runs WHERE state = 'completed' LIMIT 1",
      "UPDATE twice SET id = 'run_twice'",
      "INSERT INTO runs SELECT * FROM twice"
    ],
    ["a run has not ended", /is still running/, `UPDATE runs SET state = 'running' WHERE id = ${ONE_COMPLETED}`],
    [
      "an attempt was not counted",
      /had 0 attempts; its agent was called for/,
      `UPDATE runs SET attempt = 0 WHERE id = ${ONE_COMPLETED}`
    ],
    [
      "tokens are missing",
      /the ledger says \d+ tokens were used/,
      `UPDATE runs SET input_tokens = input_tokens - 1 WHERE id = ${ONE_COMPLETED}`
    ],
    [
      "what an attempt used that was followed by another is not charged",
      /used \d+ tokens before its last attempt, and is charged/,
      `UPDATE audit SET body = json_set(body, '$.kind', 'run.retrying', '$.data.inputTokens', 1000000, '$.data.outputTokens', 0)
        WHERE seq = (SELECT min(seq) FROM audit WHERE kind = 'run.started')`
    ],
    [
      "an answer was turned around",
      /approval .* is denied by .*; recorded: approved/,
      "UPDATE approvals SET state = 'denied' WHERE state = 'approved'"
    ],
    [
      "a message was answered twice",
      /has 4 turns, not 2/,
      `INSERT INTO turns SELECT seq + 1000000, session_key, role, content, at, sender, event_id FROM turns
        WHERE event_id = (SELECT event_id FROM turns LIMIT 1)`
    ],
    [
      "turns stand in another order",
      /is not a message with its answer/,
      "UPDATE turns SET seq = -seq WHERE seq = (SELECT max(seq) FROM turns)"
    ],
    [
      "an audit record was rewritten",
      /audit: record 3 is not what its hash says/,
      `UPDATE audit SET body = replace(body, '"seq":3', '"seq": 3') WHERE seq = 3`
    ],
    ["an audit record is missing", /audit: record 3 is missing/, "DELETE FROM audit WHERE seq = 3"],
    [
      "the end of the audit is missing",
      /export: line \d+ is not the file's record/,
      "DELETE FROM audit WHERE seq > (SELECT max(seq) - 3 FROM audit)"
    ],
    ["a switch is as nobody left it", /is paused; recorded: running/, "UPDATE switches SET mode = 'paused'"],
    [
      "a run that was taken over is as good as answered",
      /is completed; recorded: 1 merges/,
      `UPDATE runs SET state = 'completed' WHERE id = ${ONE_MERGED}`
    ],
    [
      "what was taken over is not in the run that took it over",
      /is not in the task of the run it is merged into/,
      `UPDATE runs SET task = 'another' WHERE event_id =
        (SELECT merged_into FROM events WHERE run_id = ${ONE_MERGED})`
    ],
    [
      "what was taken over is merged into another",
      /was taken over for .*, and its event for evt_other/,
      `UPDATE events SET merged_into = 'evt_other' WHERE run_id = ${ONE_MERGED}`
    ],
    [
      "a run is cancelled for no reason",
      /is cancelled, and nothing cancelled it/,
      "UPDATE runs SET error = 'just so' WHERE error LIKE 'dropped%'"
    ],
    [
      "a vote is missing",
      /needs 2 and is approved by/,
      `DELETE FROM votes WHERE voter = 'ada' AND approval_id = ${ONE_USED}`
    ],
    [
      "a vote was for something else",
      /is for something else than it shows/,
      `UPDATE votes SET digest = 'another' WHERE approval_id = ${ONE_USED}`
    ],
    [
      "an approval shows something else than its digest says",
      /is for something else than it shows/,
      `UPDATE approvals SET proposal = replace(proposal, '"task":"', '"task":"not ') WHERE id = ${ONE_USED}`
    ],
    [
      "what ran is not what was approved",
      /is not what apr_.* approved/,
      `UPDATE runs SET task = 'another' WHERE id = (SELECT consumed_by FROM approvals WHERE id = ${ONE_USED})`
    ],
    [
      "what needs an approval ran without one",
      /used 0 approvals, and its agent was called/,
      `UPDATE approvals SET consumed_by = NULL WHERE id = ${ONE_USED}`
    ],
    [
      "a run is abandoned that was not cut off",
      /is about .*, which is failed/,
      `UPDATE runs SET state = 'failed' WHERE id = ${ONE_ABANDONED}`
    ],
    [
      "nobody was asked about a run that was abandoned",
      /is abandoned, and a person was asked 0 times/,
      "UPDATE audit SET body = replace(body, 'run.escalated', 'run.forgotten')"
    ],
    [
      "a run was begun although all was paused",
      /was begun while \* was paused/,
      "UPDATE audit SET body = json_set(body, '$.kind', 'switch.changed', '$.data.scope', '*', '$.data.mode', 'paused') WHERE seq = 2"
    ],
    [
      "a run was begun although the gateway was held",
      /was begun while the gateway was held/,
      `UPDATE audit SET body = json_set(body, '$.kind', 'gateway.held') WHERE seq = ${SECOND_START} - 1`
    ]
  ]
  for (const [what, found, ...statements] of tampering) {
    it(`finds it when ${what}`, () => {
      expect(after(honest, ...statements).join("\n")).toMatch(found)
    })
  }

  it("finds it when a message that was interrupted is forgotten", () => {
    const statement =
      "DELETE FROM turns WHERE event_id IN (SELECT event_id FROM runs WHERE error LIKE 'interrupted by a newer%')"
    expect(after(interrupted, statement).join("\n")).toMatch(/has 0 turns, not 1/)
  })

  it("finds it when a run is given up before its time, dropped where that is not so, or interrupted", () => {
    const { books } = honest
    const rules: Rules = { ...RULES, maxAttempts: 5, overflow: "refuse" }
    const found = check({ ...books, rules }).join("\n")
    expect(found).toMatch(/was abandoned after 1 attempts of 5/)
    expect(found).toMatch(/is cancelled, and nothing cancelled it: dropped/)
    expect(check({ ...interrupted.books, rules: RULES }).join("\n")).toMatch(/nothing cancelled it: interrupted/)
  })

  it("finds it when something is taken while all is stopped, and when a full session's refusal is not recorded", () => {
    const { witness } = honest.books
    witness.stops.push({ from: 0, to: Number.POSITIVE_INFINITY })
    witness.full += 1
    const found = check(honest.books)
    witness.stops.pop()
    witness.full -= 1
    expect(found.filter((line) => /was accepted while everything was stopped/.test(line))).toHaveLength(
      witness.taken.length
    )
    expect(found.at(0)).toMatch(/refused since their session was full; recorded: 0/)
  })

  it("finds it when somebody was told that an answer counts that does not, or the other way round", () => {
    const { rows, witness } = honest.books
    const used = rows.approvals.find(({ consumed_by, run_id }) => run_id === null && consumed_by !== null)
    const by = rows.votes.find(({ approval_id }) => approval_id === used?.id)?.voter as "ada" | "bob"
    for (const [state, status] of [
      ["denied", 200],
      ["approved", 409]
    ] as const) {
      witness.verdicts.push({ approvalId: used?.id ?? "", state, by, status })
      const found = check(honest.books)
      witness.verdicts.pop()
      expect(found).toEqual([`approval ${used?.id} is approved; ${by} was answered ${status} to ${state}`])
    }
  })

  it("finds it when what was refused is there, and when a duplicate was given another id", () => {
    const { books } = honest
    const { witness } = books
    const [[key = "", eventId = ""] = []] = witness.accepted
    witness.refused.add(key)
    witness.repeated.push({ key, eventId: "evt_other" })
    const found = check(books)
    witness.refused.delete(key)
    witness.repeated.pop()
    expect(found).toEqual([
      `${key}, sent again, was answered with evt_other and is ${eventId}`,
      `${key} was refused and is there`
    ])
  })

  it("plans a round from its seed alone", () => {
    expect(say(plan(42))).toBe(say(plan(42)))
    expect(say(plan(42))).not.toBe(say(plan(43)))
  })
})
