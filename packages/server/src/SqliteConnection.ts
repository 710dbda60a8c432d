import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { GatewayConfigError } from "@postilion/gateway"
import { Context, Effect, Layer, type Scope } from "effect"

/** Why a file cannot be the storage, and what to do. */
export const refuse = (file: string, problem: string, remedy: string, cause?: unknown) =>
  new GatewayConfigError({
    path: "storage",
    message: `configuration: storage: "${file}" ${problem}; ${remedy}`,
    cause
  })

export const LEFT_ALONE =
  "it was left as it is: restore a backup, or take out what can be read with `sqlite3 <file> .recover`; to start empty, set `storage` to another file"

/** SQLite's or the system's code, however deep the client has wrapped it; `""` when there is none. */
export const codeOf = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return ""
  if ("code" in cause && typeof cause.code === "string") return cause.code
  return "cause" in cause ? codeOf(cause.cause) : ""
}

export const isLocked = (cause: unknown): boolean => /^SQLITE_(BUSY|LOCKED)/.test(codeOf(cause))

/** The disk is full, or a file is as large as it may be; the database's index of its log is grown in its own way. */
const FULL: ReadonlySet<string> = new Set(["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "ENOSPC", "EDQUOT", "EFBIG"])

/** What went wrong with a file, as whoever set `storage` needs to read it; an error that says so already stays. */
export const explain = (file: string, cause: unknown): GatewayConfigError => {
  if (cause instanceof GatewayConfigError) return cause
  const code = codeOf(cause)
  if (code === "SQLITE_NOTADB") return refuse(file, "is not a SQLite database", LEFT_ALONE, cause)
  if (code.startsWith("SQLITE_CORRUPT")) return refuse(file, "is damaged", LEFT_ALONE, cause)
  if (isLocked(cause)) {
    return refuse(file, "is locked by another program", "close what has it open, such as a `sqlite3` shell", cause)
  }
  if (FULL.has(code)) {
    return refuse(file, `cannot grow (${code})`, "make room on its disk, or raise the limit on file sizes", cause)
  }
  if (code.startsWith("SQLITE_READONLY")) {
    return refuse(file, "cannot be written, only read", "make it and its folder writable for this user", cause)
  }
  const why = code === "" ? "" : ` (${code})`
  return refuse(file, `cannot be opened${why}`, "make it and its folder readable and writable for this user", cause)
}

type Client = SqliteClient.SqliteClient | SqlClient.SqlClient

/** A connection on which the pragmas have been run, until the scope closes. Fails with what the client made of it. */
export const connect = (
  options: SqliteClient.SqliteClientConfig,
  pragmas: ReadonlyArray<string>
): Effect.Effect<Context.Context<Client>, unknown, Scope.Scope> =>
  Layer.build(SqliteClient.layer(options)).pipe(
    // The client throws when it cannot open a database.
    Effect.catchAllDefect(Effect.fail),
    Effect.tap((context) =>
      Effect.forEach(pragmas, (pragma) => Context.get(context, SqlClient.SqlClient).unsafe(pragma), { discard: true })
    )
  )
