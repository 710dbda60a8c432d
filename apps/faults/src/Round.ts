import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import type { Books } from "./Books.ts"
import { check } from "./Check.ts"
import { type Child, type Ended, start } from "./Child.ts"
import { type Dice, make as makeDice } from "./Dice.ts"
import type { Disk } from "./Disk.ts"
import { describe, draw, type Fault, inject } from "./Faults.ts"
import { answerOne, load, request } from "./Load.ts"
import type { Rules, ServerOptions } from "./Protocol.ts"
import * as Rows from "./Rows.ts"
import { Witness } from "./Witness.ts"

/** One life of the server: faults one after the other, each after a while, and an end. Milliseconds. */
interface Life {
  readonly faults: ReadonlyArray<{ readonly after: number; readonly fault: Fault }>
  readonly end: { readonly after: number; readonly signal: "SIGKILL" | "SIGTERM" }
  /** Whether its end is counted from when it was started: it may be killed while it takes up what the last one left. */
  readonly early: boolean
  /** Whether what an earlier life left switched off is switched on at its beginning. */
  readonly resumes: boolean
}

/** All that chance decides of a round but for its load: known before it begins. */
export interface Plan {
  readonly seed: number
  readonly lives: ReadonlyArray<Life>
  /** The wall clock at its beginning, milliseconds from the real one. */
  readonly shift: number
  readonly rules: Rules
}

const HOUR = 3_600_000
const MINUTE = 60_000

const drawLife = (dice: Dice): Life => {
  const early = dice.chance(0.2)
  return {
    faults: early ? [] : Array.from({ length: dice.int(1, 2) }, () => ({ after: dice.int(0, 250), fault: draw(dice) })),
    end: {
      after: early ? dice.int(100, 800) : dice.int(150, 900),
      signal: early || dice.chance(0.65) ? "SIGKILL" : "SIGTERM"
    },
    early,
    resumes: dice.chance(0.5)
  }
}

const drawRules = (dice: Dice): Rules => ({
  dailyTokenBudget: dice.pick(["unlimited", "unlimited", 5_000, 50_000]),
  whenBusy: dice.pick(["queue", "collect", "interrupt", "steer"]),
  overflow: dice.pick(["refuse", "drop-oldest"]),
  approvers: dice.pick([1, 2]),
  maxAttempts: dice.pick([1, 2, 1_000]),
  onCrash: dice.pick(["retry", "retry", "retry", "escalate"]),
  whenStopped: dice.pick(["refuse", "keep"]),
  maxUncleanStarts: "unlimited"
})

/** Crashes one after the other, until the crash-loop breaker holds; then it is let go. The clock goes on as it does. */
const CRASH_LOOP: ReadonlyArray<Life> = [0, 1, 2, 3].map((n) => ({
  faults: n < 3 ? [] : [{ after: 150, fault: { kind: "release" } }],
  end: { after: 300, signal: "SIGKILL" },
  early: false,
  resumes: false
}))
const UNCLEAN_STARTS = 2

export const plan = (seed: number): Plan => {
  const dice = makeDice(seed)
  const planned = {
    seed,
    lives: Array.from({ length: dice.int(1, 3) }, () => drawLife(dice)),
    shift: dice.int(0, 24 * 60) * MINUTE,
    rules: drawRules(dice)
  }
  if (!dice.chance(0.1)) return planned
  return { ...planned, lives: CRASH_LOOP, rules: { ...planned.rules, maxUncleanStarts: UNCLEAN_STARTS } }
}

const sayLife = ({ early, end, faults, resumes }: Life): string =>
  [
    ...(resumes ? ["resumed"] : []),
    ...faults.map(({ after, fault }) => `${after} ms ${describe(fault)}`),
    `${end.signal} ${end.after} ms after ${early ? "its start" : "it listens"}`
  ].join(", ")

export const say = ({ lives, rules, shift }: Plan): string =>
  `clock +${shift / MINUTE} min, ${Object.values(rules).join(" ")}; ${lives.map(sayLife).join("; ")}`

export interface Outcome {
  /** What was wrong; nothing, when the books are in order. */
  readonly found: ReadonlyArray<string>
  readonly file: string
  /** What was checked; `undefined` when it did not come to that. */
  readonly books: Books | undefined
}

const ENDS_WITHIN = 60_000
const RESTS_WITHIN = 90_000
const LOOK_EVERY = 15

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null

/** Waits until nothing is under way, and no person is asked any more; returns what the server says of its ledger then. */
const rest = async (child: Child, url: string, answer: () => Promise<void>) => {
  const deadline = performance.now() + RESTS_WITHIN
  while (performance.now() < deadline) {
    const status = (await request(url, "/status", { as: "ada" }))?.body
    const { budget, pending } = status ?? {}
    if (isObject(pending) && isObject(budget) && Object.values(pending).every((count) => count === 0)) {
      return {
        used: Number(budget.used),
        reserved: Number(budget.reserved),
        resetsAt: Date.parse(String(budget.resetsAt))
      }
    }
    await answer()
    await pause(LOOK_EVERY)
  }
  const status = (await request(url, "/status", { as: "ada" }))?.body
  throw new Error(`it does not come to rest: ${JSON.stringify(status?.pending)}\n${child.log()}`)
}

/** Runs a round as planned, and checks the books it leaves. Never longer than its deadlines together. */
export const run = async (planned: Plan, disk: Disk, name: string): Promise<Outcome> => {
  const { lives, rules, seed } = planned
  const file = join(disk.folder, `${name}.sqlite`)
  const options: ServerOptions = { storage: file, quiet: false, rules }
  const witness = new Witness()
  const dice = makeDice(seed ^ 0x10ad)
  let shift = planned.shift
  let latest = shift
  const begin = (options: ServerOptions): Child => start(options, shift, (call) => witness.calls.push(call))
  const listening = async (child: Child): Promise<string> => {
    const url = await child.ready
    if (url === undefined) throw new Error(`the server did not start\n${child.log()}`)
    witness.starts += 1
    return url
  }
  const moveClock = (by: number): number => {
    shift += by
    latest = Math.max(latest, shift)
    return shift
  }

  /** Whether it holds what it has, as the crash-loop breaker must, and only then. */
  const looksHeld = async (url: string): Promise<void> => {
    if (rules.maxUncleanStarts === "unlimited") return
    const status = (await request(url, "/status", { as: "ada" }))?.body
    if (status === undefined) return
    const isHeld = status.held !== null && status.held !== undefined
    if (isHeld === witness.crashes >= rules.maxUncleanStarts) return
    witness.remarks.push(`after ${witness.crashes} crashes it came up ${isHeld ? "" : "not "}held`)
  }

  const live = async ({ early, end, faults, resumes }: Life): Promise<void> => {
    const child = begin(options)
    const victim = { child, disk, moveClock, storage: file, witness }
    const expire = async (): Promise<Ended> => {
      await pause(end.after)
      child.signal(end.signal)
      return child.end(ENDS_WITHIN)
    }
    const suffer = async (): Promise<void> => {
      for (const { after, fault } of faults) {
        await Promise.race([pause(after), child.ended])
        await inject(fault, victim)
      }
    }
    try {
      const listens = early ? child.ready : listening(child)
      if (!early) await listens
      const ending = expire()
      const url = await listens
      if (url !== undefined) {
        if (early) witness.starts += 1
        await looksHeld(url)
        if (resumes && (await child.ask({ ask: "resume" }))) witness.switches += 1
        await Promise.all([load({ child, url, dice, witness }), suffer(), ending])
      }
      const { code, signal } = await ending
      if (end.signal === "SIGKILL") witness.crashes += 1
      const asAsked = end.signal === "SIGKILL" ? signal === "SIGKILL" : code === 0
      if (!asAsked) throw new Error(`after ${end.signal} the server ended with ${signal ?? code}\n${child.log()}`)
    } finally {
      child.signal("SIGKILL")
      await child.ended
    }
  }

  /** A last life without faults, later than anything that waits for its time. */
  const settle = async () => {
    shift = latest + HOUR
    const child = begin({ ...options, quiet: true })
    try {
      const url = await listening(child)
      if (await child.ask({ ask: "resume" })) witness.switches += 1
      const ledger = await rest(child, url, () => answerOne({ child, dice, url, witness }))
      const exported = join(disk.folder, `${name}.jsonl`)
      if (!(await child.ask({ ask: "export", file: exported }))) throw new Error(`no export\n${child.log()}`)
      child.signal("SIGTERM")
      const { code } = await child.end(ENDS_WITHIN)
      if (code !== 0) throw new Error(`after SIGTERM the server ended with ${code}\n${child.log()}`)
      return { ledger, exported: readFileSync(exported, "utf8").trimEnd().split("\n") }
    } finally {
      child.signal("SIGKILL")
      await child.ended
    }
  }

  const found: Array<string> = []
  let books: Books | undefined
  try {
    for (const life of lives) await live(life)
    const settled = await settle()
    books = { rules, rows: Rows.read(file), witness, ...settled }
    found.push(...check(books))
  } catch (error) {
    found.push(error instanceof Error ? error.message : String(error))
  }
  return { found, file, books }
}
