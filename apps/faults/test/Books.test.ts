import { copyFileSync } from "node:fs"
import Database from "better-sqlite3"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Books } from "../src/Books.ts"
import { check } from "../src/Check.ts"
import * as Disk from "../src/Disk.ts"
import { type Plan, plan, run, say } from "../src/Round.ts"
import * as Rows from "../src/Rows.ts"

/** Two lives of so many milliseconds, and no faults but a kill. */
const calm = (after: number): Plan => ({
  seed: 1,
  lives: [
    { faults: [], end: { after, signal: "SIGKILL" }, early: false, resumes: false },
    { faults: [], end: { after, signal: "SIGTERM" }, early: false, resumes: false }
  ],
  shift: 0,
  rules: {
    dailyTokenBudget: "unlimited",
    whenBusy: "queue",
    overflow: "refuse",
    approvers: 1,
    maxAttempts: 1_000,
    onCrash: "retry",
    whenStopped: "refuse",
    maxUncleanStarts: "unlimited"
  }
})

/** Whether there is enough of everything to have something to tamper with. */
const isRich = ({ rows, witness }: Books): boolean =>
  witness.promises > 20 &&
  witness.repeated.length > 0 &&
  witness.verdicts.length > 0 &&
  witness.heard.length > 0 &&
  rows.approvals.some(({ state }) => state === "approved") &&
  rows.turns.length > 2 &&
  rows.events.some(({ state }) => state === "merged")

const disk = Disk.make()
afterAll(disk.remove)

let file = ""
let honest: Books

beforeAll(async () => {
  // A busy machine gets less done in the same time.
  for (const after of [1_000, 4_000, 15_000]) {
    const outcome = await run(calm(after), disk, `calm-${after}`)
    if (outcome.books === undefined) throw new Error(outcome.found.join("\n"))
    file = outcome.file
    honest = outcome.books
    if (isRich(honest)) return
  }
}, 120_000)

/** What is found in a copy of the books after somebody was at them. */
const after = (...statements: ReadonlyArray<string>): ReadonlyArray<string> => {
  const copy = `${file}.tampered`
  copyFileSync(file, copy)
  const db = new Database(copy)
  let changes = 0
  const [heard] = honest.witness.heard
  for (const statement of statements) {
    changes += db.prepare(statement.replace(HEARD, `'${heard?.eventId}'`)).run().changes
  }
  db.close()
  expect(changes).toBeGreaterThan(0)
  return check({ ...honest, rows: Rows.read(copy) })
}

const ONE_COMPLETED = "(SELECT id FROM runs WHERE state = 'completed' LIMIT 1)"
/** In a statement: the id of a message that was answered. */
const HEARD = ":heard"

describe("the check of the books", () => {
  it("finds nothing wrong with books that are in order, and they are not empty", () => {
    expect(check(honest)).toEqual([])
    expect(isRich(honest)).toBe(true)
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
    ["a switch is as nobody left it", /is paused; recorded: running/, "UPDATE switches SET mode = 'paused'"]
  ]
  for (const [what, found, ...statements] of tampering) {
    it(`finds it when ${what}`, () => {
      expect(after(...statements).join("\n")).toMatch(found)
    })
  }

  it("finds it when what was refused is there, and when a duplicate was given another id", () => {
    const [[key = "", eventId = ""] = []] = honest.witness.accepted
    const { witness } = honest
    witness.refused.add(key)
    witness.repeated.push({ key, eventId: "evt_other" })
    const found = check(honest)
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
