import { cpSync, existsSync, mkdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"
import { parseArgs } from "node:util"
import * as Disk from "./Disk.ts"
import { type Outcome, type Plan, plan, run, say } from "./Round.ts"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "50" },
    seed: { type: "string" },
    from: { type: "string", default: "1" },
    jobs: { type: "string", default: "2" },
    minutes: { type: "string", default: "0" },
    verbose: { type: "boolean", default: false }
  }
})
const count = (name: string, text: string): number => {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number >= 0) return number
  process.stderr.write(`--${name} must be a whole number, got ${text}\n`)
  process.exit(2)
}
const rounds = count("rounds", values.rounds)
const from = count("from", values.from)
const jobs = count("jobs", values.jobs)
const minutes = count("minutes", values.minutes)
const seed = count("seed", values.seed ?? String(Date.now() % 1_000_000))

/** Each round has a seed of its own, so that it can be repeated without those before it. */
const seedOf = (round: number): number => (Math.imul(seed, 0x9e3779b1) ^ Math.imul(round, 0x85ebca6b)) >>> 0

const MOST_FINDINGS = 10

/** Puts a round's files where they outlive this process. */
const keep = (file: string): string => {
  const kept = join(tmpdir(), "postilion-faults-kept", `${seed}-${basename(file)}`)
  mkdirSync(dirname(kept), { recursive: true })
  for (const end of ["", "-wal"]) if (existsSync(`${file}${end}`)) cpSync(`${file}${end}`, `${kept}${end}`)
  return kept
}

const began = performance.now()
const elapsed = (): number => (performance.now() - began) / 1_000
const total = { done: 0, failed: 0, events: 0, runs: 0, promises: 0 }
/** What there was to check: how many of each. */
const seen = new Map<string, number>()
const last = from + rounds - 1
const underWay = new Set<number>()
let next = from

const see = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1)
const report = (round: number, planned: Plan, { books, file, found }: Outcome): void => {
  const events = books?.rows.events.length ?? 0
  const runs = books?.rows.runs.length ?? 0
  const promises = books?.witness.promises ?? 0
  total.done += 1
  total.events += events
  total.runs += runs
  total.promises += promises
  for (const { state } of books?.rows.runs ?? []) see(`runs ${state}`)
  for (const { run_id, state } of books?.rows.approvals ?? [])
    see(`${run_id === null ? "approvals" : "escalations"} ${state}`)
  if (found.length === 0) {
    if (values.verbose)
      console.log(`round ${round} ok: ${events} events, ${runs} runs, ${promises} promises; ${say(planned)}`)
    return
  }
  total.failed += 1
  console.log(`round ${round} FAILED; repeat with: npm run faults -- --seed ${seed} --from ${round} --rounds 1`)
  console.log(`  plan: ${say(planned)}`)
  for (const finding of found.slice(0, MOST_FINDINGS)) console.log(`  found: ${finding}`)
  if (found.length > MOST_FINDINGS) console.log(`  and ${found.length - MOST_FINDINGS} more`)
  console.log(`  file: ${keep(file)}`)
}

/** What was done, and where to go on when that is not all. */
const summarise = (why: string): void => {
  const rest = Math.min(next, ...underWay)
  if (rest <= last) console.log(`faults: ${why}; go on with --seed ${seed} --from ${rest} --rounds ${last - rest + 1}`)
  console.log(
    `faults: ${total.done} rounds, ${total.failed} failed, seed ${seed}; ${total.events} events, ${total.runs} runs, ` +
      `${total.promises} promises held to, ${elapsed().toFixed(0)} s`
  )
  console.log(
    `faults: ${[...seen]
      .sort()
      .map(([what, times]) => `${times} ${what}`)
      .join(", ")}`
  )
}

/** Takes one round after the other, on a disk of its own. */
const work = async (): Promise<void> => {
  const disk = Disk.make()
  process.once("exit", disk.remove)
  while (next <= last && (minutes === 0 || elapsed() < minutes * 60)) {
    const round = next++
    underWay.add(round)
    const planned = plan(seedOf(round))
    const outcome = await run(planned, disk, `round-${round}`)
    underWay.delete(round)
    report(round, planned, outcome)
    for (const end of ["sqlite", "sqlite-wal", "sqlite-shm", "sqlite.lock", "sqlite.pid", "jsonl"]) {
      rmSync(outcome.file.replace(/sqlite$/, end), { force: true })
    }
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    summarise("stopped")
    process.exit(130)
  })
}
console.log(`faults: seed ${seed}, rounds ${from} to ${last}`)
await Promise.all(Array.from({ length: Math.max(jobs, 1) }, work))
summarise(`${minutes} minutes are over`)
process.exitCode = total.failed > 0 || total.done === 0 ? 1 : 0
