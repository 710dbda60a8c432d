import { accessSync, chmodSync, constants, existsSync, mkdirSync, statfsSync } from "node:fs"
import { connect, createServer } from "node:net"
import { dirname, resolve } from "node:path"
import * as Command from "@effect/cli/Command"
import { Clock, Effect, Layer } from "effect"
import { type Loaded, load } from "../Configuration.ts"
import { failed, failureOf } from "../Failure.ts"
import * as Files from "../Files.ts"
import * as Flags from "../Flags.ts"
import { paint, print, printJson, type Style } from "../Output.ts"
import { listens, target } from "../Reach.ts"

type State = "ok" | "fixed" | "warning" | "failed"
interface Check {
  readonly check: string
  readonly state: State
  readonly message: string
  readonly next?: string
}
const ok = (check: string, message: string): Check => ({ check, state: "ok", message })
const warning = (check: string, message: string, next: string): Check => ({ check, state: "warning", message, next })
const broken = (check: string, message: string, next: string): Check => ({ check, state: "failed", message, next })

const ROOM = 512 * 1_048_576

/** Whether the storage's folder is there, may be written, and has room. */
const folder = ({ config: { storage } }: Loaded, fix: boolean): ReadonlyArray<Check> => {
  if (storage === ":memory:")
    return [warning("storage", "records are in memory, and gone when it ends", "set `storage` to a file")]
  const where = dirname(resolve(storage))
  if (!existsSync(where)) {
    if (!fix) return [broken("storage", `there is no folder ${where}`, "make it, or let --fix do so")]
    mkdirSync(where, { recursive: true, mode: 0o700 })
    return [{ check: "storage", state: "fixed", message: `made ${where}` }]
  }
  try {
    accessSync(where, constants.R_OK | constants.W_OK)
  } catch {
    return [broken("storage", `${where} cannot be written`, "make it writable for this user: SQLite makes files in it")]
  }
  const { bavail, bsize } = statfsSync(where)
  const free = bavail * bsize
  const megabytes = `${Math.floor(free / 1_048_576).toLocaleString("en-US")} MiB free`
  return [
    free < ROOM
      ? warning("storage", `${where} has ${megabytes}`, "make room before it is full")
      : ok("storage", `${where}, ${megabytes}`)
  ]
}

/** Who may read what is secret. */
const permissions = (loaded: Loaded, fix: boolean): ReadonlyArray<Check> => {
  const open = Files.sensitive(loaded).filter(({ file }) => Files.openTo(file) !== "nobody")
  if (open.length === 0) return [ok("permissions", "only you can read what is secret")]
  return open.map(({ file, what }): Check => {
    if (!fix) {
      return warning(
        "permissions",
        `${Files.openTo(file)} can read ${what} in ${file}`,
        `chmod 600 ${file}, or let --fix do so`
      )
    }
    chmodSync(file, 0o600)
    return { check: "permissions", state: "fixed", message: `now only you can read ${file}` }
  })
}

/** The records: that they are whole, and of this version. The file is looked at in full only where no gateway works with it. */
const recordsOf = ({ config: { storage } }: Loaded, running: boolean) =>
  Effect.gen(function* () {
    if (storage === ":memory:" || !existsSync(storage)) return [ok("records", "there are none yet")]
    const { SqliteStorage } = yield* Effect.promise(() => import("@postilion/server"))
    if (!running) yield* SqliteStorage.check(storage)
    yield* Effect.scoped(Layer.build(SqliteStorage.layerReadOnly({ filename: storage })))
    return [ok("records", running ? "they are of this version" : "they are whole, and of this version")]
  }).pipe(Effect.catchAll(({ message }) => Effect.succeed([broken("records", message, "see docs/storage.md")])))

const canListen = (host: string, port: number): Effect.Effect<string | undefined> =>
  Effect.async((resume) => {
    const server = createServer()
    server.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? error.message)))
    server.listen(port, host, () => server.close(() => resume(Effect.void as Effect.Effect<undefined>)))
  })

const port = ({ config }: Loaded, running: boolean, url: string) =>
  Effect.gen(function* () {
    if (running) return [ok("port", `a gateway answers at ${url}`)]
    const refusal = yield* canListen(config.host, config.port)
    return refusal === undefined
      ? [ok("port", `${config.host}:${config.port} is free`)]
      : [
          broken(
            "port",
            `${config.host}:${config.port} cannot be listened at (${refusal})`,
            "end what has it, or set another `port`"
          )
        ]
  })

/** Milliseconds two clocks may differ. */
const SKEW = 5_000

/** This machine's clock against the gateway's; signed webhooks and tokens go by it. */
const clock = (running: boolean, url: string) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    if (now < 1_735_689_600_000) return [broken("clock", "it is before 2025 here", "set the clock")]
    if (!running) return [ok("clock", new Date(now).toISOString())]
    const answer = yield* Effect.promise(() => fetch(`${url}/livez`))
    const there = Date.parse(answer.headers.get("date") ?? "")
    const off = Math.abs(there - now)
    return off > SKEW + 1_000
      ? [
          warning(
            "clock",
            `the gateway's clock differs by ${Math.round(off / 1_000)} s`,
            "set both by NTP: signatures go by it"
          )
        ]
      : [ok("clock", "as the gateway's")]
  })

const REACHED_WITHIN = 5_000
const reaches = (address: string): Effect.Effect<string | undefined> =>
  Effect.async((resume) => {
    const { hostname, port, protocol } = new URL(address)
    const socket = connect({
      host: hostname.replace(/^\[|\]$/g, ""),
      port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
      timeout: REACHED_WITHIN
    })
    const end = (problem: string | undefined) => {
      socket.destroy()
      resume(Effect.succeed(problem))
    }
    socket.once("connect", () => end(undefined))
    socket.once("timeout", () => end("no answer within 5 s"))
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  })

/** Whether what answers are sent to, and what models are asked at, is there. Nothing is sent to it. */
const reachable = ({ config: { agents, channels } }: Loaded) =>
  Effect.forEach(
    [
      ...Object.entries(channels).map(([name, { url }]) => [`channel ${name}`, url] as const),
      ...Object.entries(agents).flatMap(([id, { baseUrl }]) =>
        baseUrl === undefined ? [] : [[`agent ${id}`, baseUrl] as const]
      )
    ],
    ([name, url]) =>
      Effect.map(reaches(url), (problem) =>
        problem === undefined
          ? ok(name, `${new URL(url).host} can be reached`)
          : warning(
              name,
              `${new URL(url).host} cannot be reached (${problem})`,
              "see that it runs, and that nothing is between"
            )
      ),
    { concurrency: 8 }
  )

const STYLES: Readonly<Record<State, Style>> = { ok: "green", fixed: "cyan", warning: "yellow", failed: "red" }

export const doctor = Command.make(
  "doctor",
  {
    fix: Flags.flag("fix", "Put right what is safe to: permissions of files, a folder that is missing."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ fix, json, ...flags }) =>
    Effect.gen(function* () {
      const checks: Array<Check> = [ok("node", process.version)]
      const found = yield* Effect.either(load(flags.config))
      if (found._tag === "Left") {
        const failure = failureOf(found.left)
        checks.push(
          broken("configuration", failure?.message ?? "it cannot be read", failure?.next ?? "see `postilion check`")
        )
      } else {
        const loaded = found.right
        checks.push(ok("configuration", loaded.file))
        const { url } = yield* target(flags)
        const running = yield* listens(url)
        checks.push(...(yield* port(loaded, running, url)))
        checks.push(...folder(loaded, fix))
        checks.push(...(yield* recordsOf(loaded, running)))
        checks.push(...permissions(loaded, fix))
        checks.push(...(yield* clock(running, url)))
        checks.push(...(yield* reachable(loaded)))
      }
      if (json) yield* printJson({ checks })
      else {
        for (const { check, message, next, state } of checks) {
          yield* print(
            `${paint(STYLES[state], state.padEnd(7))}  ${check}: ${message}${next === undefined ? "" : `\n         ${next}`}`
          )
        }
      }
      const bad = checks.filter(({ state }) => state === "failed").length
      if (bad > 0)
        return yield* failed(`${bad} of ${checks.length} checks failed`, "put them right, from the first one down")
    })
).pipe(
  Command.withDescription(
    "Looks for what would keep the gateway from working: configuration, port, records, permissions, clock, who it has to reach. Ends with 1 where something would."
  )
)
