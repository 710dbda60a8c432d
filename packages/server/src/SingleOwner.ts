import { readFileSync, rmSync, writeFileSync } from "node:fs"
import type { GatewayConfigError } from "@postilion/gateway"
import { Effect, type Scope } from "effect"
import { connect, explain, isLocked, refuse } from "./SqliteConnection.ts"

const holderOf = (pidFile: string): string => {
  try {
    return `the process with pid ${readFileSync(pidFile, "utf8").trim()}`
  } catch {
    // Whoever holds it has only just begun, or its pid file was deleted.
    return "another process"
  }
}

const writePid = (pidFile: string) =>
  Effect.try({
    try: () => writeFileSync(pidFile, `${process.pid}\n`),
    catch: (cause) => explain(pidFile, cause)
  })

/**
 * Makes this process the only one that works with `file`, until the scope closes. Fails when another one, or this one
 * already, does; the error names its pid.
 *
 * What counts is a lock of the operating system on `<file>.lock`, taken through SQLite: it ends with the process however
 * that ends, and neither a pid that was given out again nor a container where every process has pid 1 can mislead it.
 * `<file>.pid` holds the pid, for people and for the error. `<file>.lock` stays behind, empty: to delete it while someone
 * waits for it would let two in.
 */
export const hold = (file: string): Effect.Effect<void, GatewayConfigError, Scope.Scope> =>
  // The transaction is the lock; it is never committed.
  connect({ filename: `${file}.lock`, disableWAL: true }, [
    "PRAGMA busy_timeout = 0",
    "PRAGMA journal_mode = MEMORY",
    "BEGIN EXCLUSIVE"
  ]).pipe(
    Effect.mapError((cause) =>
      isLocked(cause)
        ? refuse(
            file,
            `is in use by ${holderOf(`${file}.pid`)}`,
            "stop that one first, or set `storage` to another file",
            cause
          )
        : explain(`${file}.lock`, cause)
    ),
    Effect.zipRight(
      Effect.acquireRelease(writePid(`${file}.pid`), () => Effect.sync(() => rmSync(`${file}.pid`, { force: true })))
    )
  )
