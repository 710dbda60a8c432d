import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import {
  Action,
  BodyIsOptional,
  Instant,
  instant,
  Lines,
  limit,
  MaybeText,
  Members,
  maybe,
  number,
  text,
  whole
} from "./Fields.ts"
import { Refused, Unprocessable, Unreadable } from "./Problem.ts"

const Sha256 = Schema.String.pipe(Schema.pattern(/^[0-9a-f]{64}$/, { message: () => "must be 64 hexadecimal digits" }))

export const AuditRecord = Schema.Struct({
  chain: Schema.String,
  seq: number("From 1, without gaps."),
  at: Instant,
  kind: Schema.String,
  eventId: MaybeText,
  data: Members,
  hash: text("SHA-256 over the hash of the record before and this one's canonical JSON.")
}).annotations({ identifier: "AuditRecord" })

/** A line of an export. */
export const AuditLine = Schema.Struct({
  chain: Schema.String,
  seq: Schema.Int,
  at: number("Unix milliseconds."),
  kind: Schema.String,
  eventId: Schema.NullOr(Schema.String),
  data: Members,
  hash: Sha256
}).annotations({
  identifier: "AuditLine",
  description: "A line of an export: a record's canonical JSON, and its hash as the last member."
})

/** What a verification answers, line by line: how far it is, and at last what it found. */
export const Verified = Schema.Union(
  Schema.Struct({ progress: Schema.Struct({ records: Schema.Number, total: Schema.Number }) }),
  Schema.Struct({
    verdict: Schema.Union(
      Schema.Struct({
        valid: Schema.Literal(true),
        from: number("The first record there is: 1, unless older ones were pruned."),
        records: Schema.Number,
        head: text("The last record's hash."),
        signedTo: maybe(number("The last record a signature covers, where a public key was given."))
      }),
      Schema.Struct({
        valid: Schema.Literal(false),
        records: number("How many before it fit."),
        seq: number("The first record that does not fit."),
        problem: Schema.String
      })
    )
  })
).annotations({ identifier: "AuditVerification", description: "One line of what a verification answers." })
export type Verified = typeof Verified.Type

export const Evidence = Schema.Struct({
  publicKey: maybe(text("The public half of the key checkpoints are signed with, in PEM.")),
  maxUnsigned: maybe(
    Schema.NonNegativeInt.annotations({ description: "Most records after the last signature. Default: any number." })
  ),
  checkpoints: maybe(
    Schema.Array(Schema.Struct({ seq: Schema.Int, hash: Sha256 }))
      .pipe(Schema.maxItems(10_000))
      .annotations({ description: "Checkpoints that were kept elsewhere." })
  )
}).annotations({ title: "what the chain is held against" })

/** The hash-chained record of everything the gateway did. */
export const Audit = HttpApiGroup.make("audit")
  .annotate(OpenApi.Description, "The hash-chained record of everything the gateway did.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("query", "/audit")
      .annotate(Action, "audit.read")
      .annotate(OpenApi.Description, "Records, in order. `head` is the last one there is.")
      .setUrlParams(
        Schema.Struct({
          kind: Schema.optional(text("Such as `event.decided`.")),
          eventId: Schema.optional(Schema.String),
          from: instant("Only records at or after this instant."),
          to: instant("Only records before this instant."),
          after: whole(0, Number.MAX_SAFE_INTEGER, "The cursor: only records after this `seq`."),
          limit: limit(1_000, 100)
        })
      )
      .addSuccess(Schema.Struct({ records: Schema.Array(AuditRecord), head: Schema.Number }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.get("export", "/audit/export")
      .annotate(Action, "audit.read")
      .annotate(
        OpenApi.Description,
        "Every record, in order. Each line is an `AuditLine`. Nothing is pruned meanwhile."
      )
      .addSuccess(Lines)
  )
  .add(
    HttpApiEndpoint.post("verify", "/audit/verify")
      .annotate(Action, "audit.read")
      .annotate(BodyIsOptional, true)
      .annotate(
        OpenApi.Description,
        "Computes the whole chain again, held against what was kept elsewhere. Each line is an `AuditVerification`: how far it is, and last the verdict. Nothing is pruned meanwhile."
      )
      .setPayload(Evidence)
      .addSuccess(Lines)
      .addError(Unreadable)
  )
