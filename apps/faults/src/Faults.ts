import { spawnSync } from "node:child_process"
import { setTimeout as pause } from "node:timers/promises"
import Database from "better-sqlite3"
import type { Child } from "./Child.ts"
import type { Dice } from "./Dice.ts"
import type { Disk } from "./Disk.ts"
import type { Witness } from "./Witness.ts"

/** A fault, drawn when a round is planned. `hold` is how long it lasts, in milliseconds. */
export type Fault =
  /** Another program holds the database's write lock: up to a second writes are slow, past it (`busy_timeout`) they fail. */
  | { readonly kind: "locked"; readonly hold: number }
  /** Every write to a file fails (`EFBIG`, to SQLite an I/O error): the process's file size limit is as good as none. */
  | { readonly kind: "write-errors"; readonly hold: number }
  /** The disk is full. */
  | { readonly kind: "disk-full"; readonly hold: number }
  /** The process is stopped and goes on, as on a host that sleeps. */
  | { readonly kind: "frozen"; readonly hold: number }
  /** Somebody sets the wall clock, to so many milliseconds from where it was. */
  | { readonly kind: "clock"; readonly by: number }
  /** All agents are switched so, and resumed. */
  | { readonly kind: "pause" | "stop" | "terminate"; readonly hold: number }
  /** The configuration is changed, so many times on end. */
  | { readonly kind: "reload"; readonly times: number }
  /** What the crash-loop breaker holds is let go. */
  | { readonly kind: "release" }

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** Now and then writes fail until the process has ended, however it ends. */
const failing = (dice: Dice): number => (dice.chance(0.85) ? dice.int(20, 500) : 60 * SECOND)

export const draw = (dice: Dice): Fault => {
  switch (dice.int(0, 7)) {
    case 0:
      return { kind: "locked", hold: dice.chance(0.8) ? dice.int(20, 300) : dice.int(1_050, 1_300) }
    case 1:
      return { kind: "write-errors", hold: failing(dice) }
    case 2:
      return { kind: "disk-full", hold: failing(dice) }
    case 3:
      return { kind: "frozen", hold: dice.int(20, 400) }
    case 4:
      return { kind: dice.pick(["pause", "stop", "terminate"]), hold: dice.int(20, 300) }
    case 5:
      return { kind: "clock", by: dice.int(SECOND, dice.pick([MINUTE, 5 * MINUTE, 3 * HOUR])) }
    case 6:
      return { kind: "reload", times: dice.int(1, 5) }
    default:
      return { kind: "clock", by: -dice.int(SECOND, dice.pick([MINUTE, 5 * MINUTE, HOUR])) }
  }
}

export const describe = (fault: Fault): string =>
  "hold" in fault
    ? `${fault.kind}(${fault.hold} ms)`
    : "by" in fault
      ? `${fault.kind}(${fault.by > 0 ? "+" : ""}${fault.by / SECOND} s)`
      : "times" in fault
        ? `${fault.kind}(${fault.times} times)`
        : fault.kind

/** What a fault is done to. */
export interface Victim {
  readonly child: Child
  readonly storage: string
  readonly disk: Disk
  readonly witness: Witness
  /** Sets the wall clock on; returns what it is from the real one then. */
  readonly moveClock: (by: number) => number
}

const limitFileSize = (pid: number, limit: string): void => {
  // Only where there is util-linux; elsewhere this fault does not happen.
  spawnSync("prlimit", [`--pid=${pid}`, `--fsize=${limit}:`])
}

/** Takes the write lock as another program would; `undefined` when it cannot be had just now. */
const lock = (storage: string): (() => void) | undefined => {
  try {
    const other = new Database(storage, { fileMustExist: true, timeout: 50 })
    try {
      other.exec("BEGIN IMMEDIATE")
    } catch (error) {
      other.close()
      throw error
    }
    return () => {
      other.exec("ROLLBACK")
      other.close()
    }
  } catch {
    return undefined
  }
}

/** Begins a fault; what it returns ends it. */
const begin = async (fault: Fault, { child, disk, moveClock, storage, witness }: Victim): Promise<() => unknown> => {
  switch (fault.kind) {
    case "locked":
      return lock(storage) ?? (() => {})
    case "write-errors":
      limitFileSize(child.pid, "1")
      return () => limitFileSize(child.pid, "unlimited")
    case "disk-full":
      return disk.fill()
    case "frozen":
      child.signal("SIGSTOP")
      return () => child.signal("SIGCONT")
    case "clock":
      await child.ask({ ask: "clock", shift: moveClock(fault.by) })
      return () => {}
    case "pause":
    case "stop":
    case "terminate": {
      const thrown = await child.ask({ ask: fault.kind })
      if (thrown) witness.switches += 1
      const from = performance.now()
      return async () => {
        if (thrown && fault.kind !== "pause") witness.stops.push({ from, to: performance.now() })
        if (await child.ask({ ask: "resume" })) witness.switches += 1
      }
    }
    case "reload":
      for (let n = 0; n < fault.times; n++) if (await child.ask({ ask: "reload" })) witness.reloads += 1
      return () => {}
    case "release":
      if (await child.ask({ ask: "release" })) witness.crashes = 0
      return () => {}
  }
}

/** Has a fault happen to a server, from now until it is over or the server is. */
export const inject = async (fault: Fault, victim: Victim): Promise<void> => {
  const { child } = victim
  if (!child.isAlive()) return
  const end = await begin(fault, victim)
  await Promise.race([pause("hold" in fault ? fault.hold : 0), child.ended])
  await end()
}
