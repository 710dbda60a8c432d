import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Effect } from "effect"
import { usage } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { bytesOf } from "../Input.ts"
import * as Lines from "../Lines.ts"
import { paint, print, printJson, printList, progress, say, when } from "../Output.ts"
import { asking, reading } from "../Reach.ts"

const kept = Effect.promise(() => import("../Kept.ts"))

const key = Args.text({ name: "session" }).pipe(Args.withDescription("The session's key."))

export const list = Command.make(
  "list",
  {
    cursor: Flags.optional("cursor", "cursor", "`next` of the page before."),
    limit: Flags.limit(1_000, 50),
    json: Flags.json,
    ...Flags.connected
  },
  ({ cursor, json, limit, ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => api.sessions.list({ urlParams: { cursor, limit } }),
        () => Effect.flatMap(kept, ({ sessions }) => sessions({ cursor, limit }))
      )
      yield* printList(
        json,
        found,
        found.sessions,
        [
          { head: "session", of: ({ key }) => key },
          { head: "agent", of: ({ agentId }) => agentId },
          { head: "last used", of: ({ updatedAt }) => when(updatedAt) }
        ],
        "there are no sessions"
      )
      if (!json && found.next !== null) yield* say(paint("dim", `there are more: --cursor ${found.next}`, "err"))
    })
).pipe(Command.withDescription("Lists conversations, the one last used first."))

export const show = Command.make(
  "show",
  { key, limit: Flags.limit(1_000, 40), json: Flags.json, ...Flags.connected },
  ({ json, key, limit, ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => api.sessions.show({ path: { key }, urlParams: { limit } }),
        () => Effect.flatMap(kept, ({ session }) => session(key, limit))
      )
      if (json) return yield* printJson(found)
      for (const { at, content, role, sender } of found.turns) {
        const who = role === "assistant" ? found.session.agentId : (sender ?? "user")
        yield* print(`${paint("dim", when(at) ?? "")}  ${paint("bold", who)}: ${content}`)
      }
    })
).pipe(Command.withDescription("Shows the last turns of a conversation, oldest first."))

export const remove = Command.make("delete", { key, yes: Flags.yes, ...Flags.connected }, ({ key, yes, ...flags }) =>
  Effect.gen(function* () {
    if (!yes) return yield* usage(`this deletes all that was said in "${key}"`, "add --yes if that is meant")
    const { removed } = yield* asking(flags, (api) => api.sessions.remove({ path: { key } }))
    yield* say(`${removed}: deleted`)
  })
).pipe(Command.withDescription("Deletes a conversation with all its turns."))

export const exported = Command.make(
  "export",
  { output: Flags.optional("output", "file", "A new file. Default: prints it."), ...Flags.connected },
  ({ output: file, ...flags }) =>
    reading(
      flags,
      (api) => Lines.write(api.sessions.export, { file, what: "lines" }),
      () =>
        Effect.flatMap(kept, ({ sessionLines, withSubsystems }) =>
          withSubsystems(Effect.flatMap(sessionLines, (lines) => Lines.write(lines, { file, what: "lines" })))
        )
    )
).pipe(
  Command.withDescription("Writes every conversation as lines of JSON: a session, then its turns. `import` takes them.")
)

/** Bytes that are sent at a time: fewer than a gateway takes. */
const PART = 4 * 1_048_576

/** Lines in parts that begin with a session. */
const partsOf = (text: string): ReadonlyArray<string> => {
  const parts: Array<string> = []
  let part = ""
  for (const line of text.split("\n")) {
    if (line === "") continue
    if (part.length > PART && line.startsWith('{"session"')) {
      parts.push(part)
      part = ""
    }
    part += `${line}\n`
  }
  return part === "" ? parts : [...parts, part]
}

export const imported = Command.make(
  "import",
  {
    file: Args.text({ name: "file" }).pipe(Args.withDescription("What `export` wrote; - is what is piped in.")),
    replace: Flags.flag("replace", "Replace sessions that are there already. Default: refuse, and import nothing."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ file, json, replace, ...flags }) =>
    Effect.gen(function* () {
      const parts = partsOf((yield* bytesOf(file)).toString("utf8"))
      const bar = progress("importing")
      const done = yield* asking(flags, (api) =>
        Effect.gen(function* () {
          let [sessions, turns] = [0, 0]
          for (const [i, payload] of parts.entries()) {
            const existing = replace ? ("replace" as const) : ("refuse" as const)
            const added = yield* api.sessions.import({ urlParams: { existing }, payload })
            sessions += added.sessions
            turns += added.turns
            bar.tell(i + 1, parts.length)
          }
          return { sessions, turns }
        })
      ).pipe(Effect.ensuring(Effect.sync(bar.done)))
      yield* json ? printJson(done) : say(`${done.sessions} sessions with ${done.turns} turns`)
    })
).pipe(
  Command.withDescription(
    "Adds conversations that were exported: all, or, where a line is wrong, none. More than 4 MiB goes in parts, each for itself."
  )
)
