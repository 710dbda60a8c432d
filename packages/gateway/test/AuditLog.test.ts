import { createHash } from "node:crypto"
import { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Journal } from "@postilion/gateway"
import * as Audit from "@postilion/gateway/records/AuditLog"
import * as Bus from "@postilion/gateway/records/EventBus"
import * as JournalModule from "@postilion/gateway/records/Journal"
import { Chunk, Effect, FastCheck as fc, Layer, Stream, TestClock } from "effect"
import { gateway, sqlite, stores, tempFile } from "./TestGateway.ts"

const onAnyStore = Audit.layer().pipe(Layer.provideMerge(JournalModule.layer()), Layer.provideMerge(Bus.layer))
const record = (data: Record<string, unknown>, eventId?: string) =>
  Effect.flatMap(Journal, (journal) =>
    Effect.flatMap(AuditLog, (audit) =>
      journal.step((tx) =>
        audit.append(tx, { kind: "job.changed", data, ...(eventId === undefined ? {} : { eventId }) })
      )
    )
  )
const recordMany = (count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    (n) => record({ n }),
    { concurrency: "unbounded", discard: true }
  )

/** RFC 8785, once more and independently: what JSON.stringify prints, with sorted keys. */
const jcs = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(jcs).join()}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([key, child]) => `${JSON.stringify(key)}:${jcs(child)}`).join()}}`
}

/** What a person with nothing but the exported lines does to check them. */
const verifyOffline = (lines: ReadonlyArray<string>): number => {
  let previous = "0".repeat(64)
  for (const [i, line] of lines.entries()) {
    const { hash, ...body } = JSON.parse(line) as Record<string, unknown> & { readonly hash: string }
    const expected = createHash("sha256")
      .update(`${previous}${jcs(body)}`)
      .digest("hex")
    if (hash !== expected || body.seq !== i + 1) return i + 1
    previous = hash
  }
  return 0
}

for (const [name, storeLayer] of stores) {
  describe(`the audit log on ${name}`, () => {
    it.scoped("an empty log is valid, and its head is the genesis hash", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        expect(yield* audit.verify).toEqual({ valid: true, records: 0, head: Audit.GENESIS })
      }).pipe(Effect.provide(onAnyStore), Effect.provide(storeLayer))
    )

    it.scoped("numbers records from 1 without gaps, chains them over pages and batches, and finds them again", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        yield* recordMany(2_500)
        yield* TestClock.adjust("1 second")
        yield* record({ last: true }, "evt_1")
        const verified = yield* audit.verify
        expect(verified).toMatchObject({ valid: true, records: 2_501 })
        const [last] = yield* audit.query({ eventId: "evt_1" })
        expect(last).toEqual({
          chain: "main",
          seq: 2_501,
          at: new Date(1_000),
          kind: "job.changed",
          eventId: "evt_1",
          data: { last: true },
          hash: verified.valid ? verified.head : ""
        })
        expect((yield* audit.query()).map(({ seq }) => seq)).toEqual(Array.from({ length: 1_000 }, (_, n) => n + 1))
        expect((yield* audit.query({ after: 1_990, limit: 3 })).map(({ seq }) => seq)).toEqual([1_991, 1_992, 1_993])
        expect(yield* audit.query({ kind: "run.ended" })).toEqual([])
        expect(yield* audit.query({ kind: "job.changed", after: 2_500 })).toHaveLength(1)
      }).pipe(Effect.provide(onAnyStore), Effect.provide(storeLayer))
    )

    it.scoped("its export verifies offline with nothing of ours", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        const data = fc.sample(fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue()), {
          numRuns: 300,
          seed: 7
        })
        yield* Effect.forEach(data, (value) => record(JSON.parse(JSON.stringify(value))), { concurrency: "unbounded" })
        const lines = Chunk.toReadonlyArray(yield* Stream.runCollect(audit.export))
        expect(lines).toHaveLength(300)
        expect(lines.every((line) => !line.includes("\n"))).toBe(true)
        expect(verifyOffline(lines)).toBe(0)
        expect(yield* audit.verify).toMatchObject({ valid: true })
        // A line that was changed, or left out, shows.
        expect(
          verifyOffline(lines.with(200, (lines[200] ?? "").replace('"kind":"job.changed"', '"kind":"job.removed"')))
        ).toBe(201)
        expect(verifyOffline(lines.toSpliced(42, 1))).toBe(43)
      }).pipe(Effect.provide(onAnyStore), Effect.provide(storeLayer))
    )

    it.scoped("what a whole gateway writes verifies, and holds no secret", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const audit = yield* AuditLog
        yield* Effect.forEach(
          [{}, { mergeKey: "k" }, { category: "deploy" }],
          (metadata) => gw.submit({ source: "webhook", payload: { token: "hunter2" }, metadata }),
          { concurrency: "unbounded" }
        )
        const [approval] = yield* gw.approvals
        yield* gw.deny(approval?.id ?? "", "ada")
        yield* gw.pause({ by: "ada" })
        yield* gw.resume({ by: "ada" })
        yield* TestClock.adjust("5 minutes")
        const lines = Chunk.toReadonlyArray(yield* Stream.runCollect(audit.export))
        expect(verifyOffline(lines)).toBe(0)
        expect(lines.join()).not.toContain("hunter2")
        const kinds = new Set((yield* audit.query()).map(({ kind }) => kind))
        for (const kind of ["gateway.started", "event.decided", "approval.decided", "switch.changed"]) {
          expect(kinds).toContain(kind)
        }
      }).pipe(Effect.provide(gateway({ policies: { requireApprovalFor: ["deploy"] } })), Effect.provide(storeLayer))
    )
  })
}

describe("a file that was tampered with", () => {
  const RECORDS = 1_500
  /** Writes a log, closes it, changes it behind its back, opens it again and verifies it. */
  const afterwards = (tamper: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>) =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* recordMany(RECORDS).pipe(Effect.provide(onAnyStore), Effect.provide(sqlite(file)))
      yield* Effect.flatMap(SqlClient.SqlClient, tamper).pipe(Effect.provide(sqlite(file)))
      return yield* Effect.flatMap(AuditLog, (audit) => audit.verify).pipe(
        Effect.provide(onAnyStore),
        Effect.provide(sqlite(file))
      )
    })

  /** A row changed, and its hash made to fit. */
  const rehash = (sql: SqlClient.SqlClient, seq: number) =>
    Effect.gen(function* () {
      const [row] = yield* sql<{ readonly body: string; readonly prev_hash: string }>`
        SELECT body, prev_hash FROM audit WHERE seq = ${seq}`
      const body = (row?.body ?? "").replace(/"n":\d+/, '"n":-1')
      const hash = Audit.chainHash(row?.prev_hash ?? "", body)
      yield* sql`UPDATE audit SET body = ${body}, hash = ${hash} WHERE seq = ${seq}`
    })

  const cases: ReadonlyArray<
    readonly [string, (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>, seq: number, problem: RegExp]
  > = [
    [
      "a flipped byte",
      (sql) => sql`UPDATE audit SET body = replace(body, '"n":699', '"n":698') WHERE seq = 700`,
      700,
      /hash does not match/
    ],
    [
      "a flipped byte in the first record",
      (sql) => sql`UPDATE audit SET body = replace(body, '"n":0', '"n":1') WHERE seq = 1`,
      1,
      /hash does not match/
    ],
    [
      "a flipped byte in the last record",
      (sql) => sql`UPDATE audit SET body = body || ' ' WHERE seq = ${RECORDS}`,
      RECORDS,
      /hash does not match/
    ],
    ["a dropped record", (sql) => sql`DELETE FROM audit WHERE seq = 1200`, 1201, /expected record 1200, found 1201/],
    ["the first records dropped", (sql) => sql`DELETE FROM audit WHERE seq <= 10`, 11, /expected record 1, found 11/],
    [
      "two records in each other's place",
      (sql) =>
        Effect.all([
          sql`UPDATE audit SET seq = -1 WHERE seq = 30`,
          sql`UPDATE audit SET seq = 30 WHERE seq = 31`,
          sql`UPDATE audit SET seq = 31 WHERE seq = -1`
        ]),
      30,
      /does not follow/
    ],
    ["a record with a hash made to fit", (sql) => rehash(sql, 1_000), 1_001, /does not follow the record before it/],
    ["a changed time", (sql) => sql`UPDATE audit SET at = at + 1 WHERE seq = 5`, 5, /column "at" differs/],
    ["a changed kind", (sql) => sql`UPDATE audit SET kind = 'run.ended' WHERE seq = 5`, 5, /column "kind" differs/],
    ["a changed event", (sql) => sql`UPDATE audit SET event_id = 'evt_1' WHERE seq = 5`, 5, /column "eventId" differs/],
    [
      "a record moved to another chain",
      (sql) => sql`UPDATE audit SET chain = 'other' WHERE seq = 5`,
      6,
      /expected record 5, found 6/
    ],
    [
      "a changed hash",
      (sql) => sql`UPDATE audit SET hash = replace(hash, substr(hash, 1, 4), 'ffff') WHERE seq = 9`,
      9,
      /hash does not match/
    ]
  ]
  for (const [what, tamper, seq, problem] of cases) {
    it.scoped(`${what} is found, and where`, () =>
      Effect.gen(function* () {
        expect(yield* afterwards(tamper)).toEqual({
          valid: false,
          records: expect.any(Number),
          seq,
          problem: expect.stringMatching(problem)
        })
      })
    )
  }

  it.scoped("content that is no canonical JSON is found although its hash fits", () =>
    Effect.gen(function* () {
      for (const [body, problem] of [
        ["{", "its content is not JSON"],
        ['{ "seq": 1 }', "its content is not canonical JSON"]
      ] as const) {
        const verified = yield* afterwards(
          (sql) => sql`UPDATE audit SET body = ${body}, hash = ${Audit.chainHash(Audit.GENESIS, body)} WHERE seq = 1`
        )
        expect(verified).toEqual({ valid: false, records: 0, seq: 1, problem })
      }
    })
  )

  it.scoped("an untouched file verifies", () =>
    Effect.gen(function* () {
      expect(yield* afterwards(() => Effect.void)).toMatchObject({ valid: true, records: RECORDS })
    })
  )
})
