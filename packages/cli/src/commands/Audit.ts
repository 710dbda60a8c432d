import { readFileSync } from "node:fs"
import * as Command from "@effect/cli/Command"
import type { VerifyOptions } from "@postilion/gateway/records/AuditLog"
import type { AuditRecord } from "@postilion/gateway/records/AuditRecord"
import { Effect, Option, Stream } from "effect"
import { failed, failureOf } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import * as Lines from "../Lines.ts"
import { oneLine, paint, print, printJson, printLine, printList, progress, say, when } from "../Output.ts"
import { type Api, asking, readingRecords } from "../Reach.ts"

const log = Effect.promise(async () => {
  const [{ AuditLog }, { withSubsystems }] = await Promise.all([import("@postilion/gateway"), import("../Kept.ts")])
  return { AuditLog, withSubsystems }
})

const publicKey = Flags.optional(
  "public-key",
  "file",
  "The public half of the key it is signed with, in PEM: a tail that was rewritten shows."
)

const evidenceOf = (file: string | undefined) =>
  file === undefined
    ? Effect.succeed({})
    : Effect.try({
        try: () => ({ publicKey: readFileSync(file, "utf8") }),
        catch: (cause) => failed(`the public key "${file}" cannot be read`, "name a file in PEM", cause)
      })

/** The verdict at the end of what the gateway answers, and how far it is until then. */
const verifiedBy = (
  api: Api,
  evidence: Pick<VerifyOptions, "publicKey">,
  tell: (done: number, total: number) => void
) =>
  api.audit.verify(evidence as { readonly publicKey?: string }).pipe(
    Stream.filterMap((line) => {
      if ("verdict" in line) return Option.some(line.verdict)
      tell(line.progress.records, line.progress.total)
      return Option.none()
    }),
    Stream.runLast,
    Effect.flatMap((last) =>
      Option.match(last, {
        onNone: () => failed("the gateway ended without a verdict", "try again; its log says why"),
        onSome: Effect.succeed
      })
    )
  )

export const verify = Command.make(
  "verify",
  { publicKey, json: Flags.json, ...Flags.connected },
  ({ json, publicKey, ...flags }) =>
    Effect.gen(function* () {
      const evidence = yield* evidenceOf(publicKey)
      const bar = progress("verifying")
      const { AuditLog, withSubsystems } = yield* log
      const found = yield* readingRecords(
        flags,
        (api) => verifiedBy(api, evidence, bar.tell),
        () =>
          withSubsystems(
            Effect.flatMap(AuditLog, (audit) =>
              audit.verifyWith({ ...evidence, onProgress: ({ records, total }) => bar.tell(records, total) })
            )
          )
      ).pipe(Effect.ensuring(Effect.sync(bar.done)))
      if (json) yield* printJson(found)
      if (!found.valid) {
        return yield* failed(
          `the audit is broken at record ${found.seq}: ${found.problem}; the ${found.records} before it fit`,
          "keep the file as it is, and compare it with a backup or an export"
        )
      }
      if (json) return
      const signed = found.signedTo === undefined ? "" : `, signed up to ${found.signedTo}`
      const from = found.from === 1 ? "" : ` from ${found.from} on`
      yield* print(
        `${paint("green", "valid")}: ${found.records} records${from}${signed}; the last one's hash is ${found.head}`
      )
    })
).pipe(
  Command.withDescription(
    "Computes the chain again and names the first record that does not fit: from the file, where it is here, else by the gateway. Ends with 1 where one does not."
  )
)

export const exported = Command.make(
  "export",
  { output: Flags.optional("output", "file", "A new file. Default: prints it."), ...Flags.connected },
  ({ output: file, ...flags }) =>
    Effect.gen(function* () {
      const { AuditLog, withSubsystems } = yield* log
      yield* readingRecords(
        flags,
        (api) => Lines.write(api.audit.export, { file, what: "records" }),
        () => withSubsystems(Effect.flatMap(AuditLog, (audit) => Lines.write(audit.export, { file, what: "records" })))
      )
    })
).pipe(Command.withDescription("Writes every record as a line of JSON: its canonical form, with its hash."))

const filters = {
  kind: Flags.optional("kind", "kind", "Only records of this kind, such as event.decided."),
  eventId: Flags.optional("event", "id", "Only records of this event.")
}

interface Shown {
  readonly seq: number
  readonly at: Date
  readonly kind: string
  readonly eventId?: string | undefined
  readonly data: Readonly<Record<string, unknown>>
}
const columns = [
  { head: "record", of: ({ seq }: Shown) => seq, align: "right" as const },
  { head: "at", of: ({ at }: Shown) => when(at) },
  { head: "kind", of: ({ kind }: Shown) => kind },
  { head: "event", of: ({ eventId }: Shown) => eventId },
  { head: "data", of: ({ data }: Shown) => JSON.stringify(data) }
]

export const list = Command.make(
  "list",
  {
    ...filters,
    from: Flags.instant("from", "Only records at or after this time."),
    to: Flags.instant("to", "Only records before this time."),
    limit: Flags.limit(1_000, 50),
    json: Flags.json,
    ...Flags.connected
  },
  ({ eventId, from, json, kind, limit, to, ...flags }) =>
    Effect.gen(function* () {
      const { AuditLog, withSubsystems } = yield* log
      const records = yield* readingRecords(
        flags,
        (api) =>
          Effect.map(api.audit.query({ urlParams: { eventId, from, kind, limit, to } }), ({ records }) => records),
        () =>
          withSubsystems(
            Effect.flatMap(AuditLog, (audit) =>
              audit.query({
                limit,
                ...(eventId === undefined ? {} : { eventId }),
                // Of a kind that there is not, there are no records.
                ...(kind === undefined ? {} : { kind: kind as AuditRecord["kind"] }),
                ...(from === undefined ? {} : { since: from }),
                ...(to === undefined ? {} : { until: to })
              })
            )
          )
      )
      yield* printList<Shown>(json, { records }, records, columns, "no record is so")
    })
).pipe(Command.withDescription("Lists records of the audit, oldest first."))

const line = ({ at, data, eventId, kind, seq }: Shown): string =>
  [
    paint("dim", when(at) ?? ""),
    String(seq).padStart(6),
    kind.padEnd(18),
    eventId ?? "",
    oneLine(JSON.stringify(data), 120)
  ]
    .filter((text) => text !== "")
    .join("  ")

/** Milliseconds between two looks. */
const EVERY = 1_000
const PAGE = 1_000

export const tail = Command.make(
  "tail",
  {
    ...filters,
    after: Flags.optional("after", "record", "What came after this record first. Default: the last ten."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ after, eventId, json, kind, ...flags }) =>
    Effect.gen(function* () {
      const look = (after: number, limit: number) =>
        asking(flags, (api) => api.audit.query({ urlParams: { after, eventId, kind, limit } }))
      const { head } = yield* look(Number.MAX_SAFE_INTEGER, 1)
      let last = after === undefined ? Math.max(0, head - 10) : Number(after)
      if (!Number.isInteger(last)) return yield* failed(`--after ${after} is no record's number`, "give a whole number")
      let away = false
      while (true) {
        const found = yield* Effect.either(look(last, PAGE))
        if (found._tag === "Left") {
          const failure = failureOf(found.left)
          if (failure?.exit !== "temporary") return yield* Effect.fail(found.left)
          if (!away) yield* say("the gateway is away; waiting for it")
          away = true
        } else {
          away = false
          const { head, records } = found.right
          for (const record of records) yield* json ? printLine(record) : print(line(record))
          last = records.length < PAGE ? Math.max(last, head) : (records.at(-1)?.seq ?? last)
          if (records.length === PAGE) continue
        }
        yield* Effect.sleep(EVERY)
      }
    })
).pipe(
  Command.withDescription(
    "Shows records as they are written, across restarts of the gateway, until Ctrl-C. With --json a line of JSON each."
  )
)
