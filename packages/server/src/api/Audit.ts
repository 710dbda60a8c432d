import { createPublicKey } from "node:crypto"
import { Verified } from "@postilion/client/api/Audit"
import { AuditLog, type StoreError } from "@postilion/gateway"
import { Effect, Mailbox, Schema, Stream } from "effect"
import { type Handlers, Lines } from "./Operations.ts"
import { invalid } from "./Refusals.ts"

const encode = Schema.encodeSync(Schema.parseJson(Verified))
/** Progress that waits to be read; of more, the oldest is not told. */
const WAITING = 16

/** The hash-chained record of everything the gateway did. */
export const audit = Effect.map(
  AuditLog,
  (audit) =>
    ({
      query: ({ urlParams: { from, to, ...filter } }) =>
        Effect.map(audit.query({ limit: 100, ...filter, since: from, until: to }), (records) => ({
          records,
          head: audit.head()
        })),
      export: () => Effect.succeed(new Lines(audit.export)),
      verify: ({ payload: evidence }) =>
        Effect.gen(function* () {
          const { publicKey } = evidence
          if (publicKey !== undefined) {
            yield* Effect.try({
              try: () => createPublicKey(publicKey),
              catch: () => invalid("publicKey: must be a public key in PEM")
            })
          }
          return new Lines(
            Stream.unwrapScoped(
              Effect.gen(function* () {
                const told = yield* Mailbox.make<Verified, StoreError>({ capacity: WAITING, strategy: "sliding" })
                yield* audit.verifyWith({ ...evidence, onProgress: (progress) => told.unsafeOffer({ progress }) }).pipe(
                  Effect.tap((verdict) => told.offer({ verdict })),
                  Effect.exit,
                  Effect.tap((exit) => (exit._tag === "Success" ? told.end : told.failCause(exit.cause))),
                  Effect.forkScoped
                )
                return Stream.map(Mailbox.toStream(told), (line) => encode(line))
              })
            )
          )
        })
    }) satisfies Handlers<"audit">
)
