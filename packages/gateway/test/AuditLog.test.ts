import { createHash, generateKeyPairSync } from "node:crypto"
import { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Journal } from "@postilion/gateway"
import { chainHash, GENESIS } from "@postilion/gateway/records/AuditChain"
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

/** How often the event loop has turned, as long as the scope is open. */
const countTurns = Effect.gen(function* () {
  let turns = 0
  let open = true
  const turn = (): void => {
    turns += 1
    if (open) setImmediate(turn)
  }
  yield* Effect.acquireRelease(Effect.sync(turn), () =>
    Effect.sync(() => {
      open = false
    })
  )
  return () => turns
})

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
        expect(yield* audit.verify).toEqual({ valid: true, from: 1, records: 0, head: GENESIS })
      }).pipe(Effect.provide(onAnyStore), Effect.provide(storeLayer))
    )

    it.scoped("checkpoints kept from before its cut show nothing of it, and that is said; one at the cut does", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        yield* recordMany(20)
        const [early, atCut, late] = [3, 10, 15].map((seq) => ({ seq, at: seq - 1 }))
        const records = yield* audit.query()
        const kept = (one: { readonly seq: number; readonly at: number } | undefined) => ({
          seq: one?.seq ?? 0,
          hash: records[one?.at ?? 0]?.hash ?? ""
        })
        expect(yield* audit.prune({ maxCount: 10 })).toBe(10)
        const verify = (...checkpoints: ReadonlyArray<{ readonly seq: number; readonly hash: string }>) =>
          audit.verifyWith({ checkpoints })
        expect(yield* verify(kept(early))).toMatchObject({
          valid: false,
          problem: expect.stringContaining(
            "the chain begins after record 10, and checkpoints kept elsewhere end with 3"
          )
        })
        for (const one of [atCut, late]) expect(yield* verify(kept(early), kept(one))).toMatchObject({ valid: true })
        expect(yield* verify({ ...kept(atCut), hash: GENESIS })).toMatchObject({
          valid: false,
          problem: "a checkpoint kept elsewhere has another hash for record 10"
        })
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

    it.scoped("is asked for a kind and a time, page after page, and lets the event loop turn in between", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        const turns = yield* countTurns
        yield* recordMany(600)
        yield* TestClock.adjust("1 minute")
        yield* recordMany(12_000)
        yield* TestClock.adjust("1 minute")
        yield* recordMany(5)
        const minute = { kind: "job.changed", since: new Date(60_000), until: new Date(120_000) } as const
        const before = turns()
        const first = yield* audit.query({ ...minute, limit: 10_000 })
        expect(turns() - before).toBeGreaterThanOrEqual(2)
        const second = yield* audit.query({ ...minute, limit: 10_000, after: first.at(-1)?.seq ?? 0 })
        expect([...first, ...second].map(({ seq }) => seq)).toEqual(Array.from({ length: 12_000 }, (_, n) => 601 + n))
        expect(yield* audit.query({ since: new Date(120_000) })).toHaveLength(5)
        expect(yield* audit.query({ until: new Date(60_000), limit: 99_999 })).toHaveLength(600)
        // More than the most there is in an answer is not asked for at once, whatever the limit.
        expect(yield* audit.query({ limit: 99_999 })).toHaveLength(10_000)

        const told: Array<number> = []
        const walked = turns()
        const verified = yield* audit.verifyWith({
          onProgress: ({ records, total }) => {
            expect(total).toBe(12_605)
            told.push(records)
          }
        })
        expect(verified).toMatchObject({ valid: true, from: 1, records: 12_605 })
        expect(told).toEqual([...Array.from({ length: 25 }, (_, n) => (n + 1) * 500), 12_605])
        expect(turns() - walked).toBeGreaterThanOrEqual(25)
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
  const afterwards = (
    tamper: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>,
    log = onAnyStore,
    evidence?: (written: Audit.AuditLogShape) => Audit.VerifyOptions
  ) =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const against = yield* recordMany(RECORDS).pipe(
        Effect.zipRight(Effect.map(AuditLog, (audit) => evidence?.(audit))),
        Effect.provide(log),
        Effect.provide(sqlite(file))
      )
      yield* Effect.flatMap(SqlClient.SqlClient, tamper).pipe(Effect.provide(sqlite(file)))
      return yield* Effect.flatMap(AuditLog, (audit) => audit.verifyWith(against)).pipe(
        Effect.provide(log),
        Effect.provide(sqlite(file))
      )
    })

  /** All records from `seq` on changed, or only written again as they are, and the whole tail made to fit. */
  const rewriteTail = (sql: SqlClient.SqlClient, seq: number, change: (body: string) => string) =>
    Effect.gen(function* () {
      const rows = yield* sql<{ readonly seq: number; readonly body: string; readonly prev_hash: string }>`
        SELECT seq, body, prev_hash FROM audit WHERE seq >= ${seq} ORDER BY seq`
      let previous = rows[0]?.prev_hash ?? ""
      for (const row of rows) {
        const body = change(row.body)
        const hash = chainHash(previous, body)
        yield* sql`UPDATE audit SET body = ${body}, prev_hash = ${previous}, hash = ${hash},
          kind = json_extract(${body}, '$.kind') WHERE seq = ${row.seq}`
        previous = hash
      }
    })
  /** The tail of another log, which verifies by itself, in place of this one's. */
  const splice = (sql: SqlClient.SqlClient, seq: number) =>
    Effect.gen(function* () {
      const other = yield* tempFile
      const rows = yield* Effect.flatMap(TestClock.adjust("1 second"), () => recordMany(RECORDS)).pipe(
        Effect.zipRight(Effect.flatMap(SqlClient.SqlClient, (from) => from`SELECT * FROM audit WHERE seq >= ${seq}`)),
        Effect.provide(onAnyStore.pipe(Layer.provideMerge(sqlite(other))))
      )
      yield* sql`DELETE FROM audit WHERE seq >= ${seq}`
      for (const row of rows) yield* sql`INSERT INTO audit ${sql.insert(row)}`
    }).pipe(Effect.scoped)

  /** A row changed, and its hash made to fit. */
  const rehash = (sql: SqlClient.SqlClient, seq: number) =>
    Effect.gen(function* () {
      const [row] = yield* sql<{ readonly body: string; readonly prev_hash: string }>`
        SELECT body, prev_hash FROM audit WHERE seq = ${seq}`
      const body = (row?.body ?? "").replace(/"n":\d+/, '"n":-1')
      const hash = chainHash(row?.prev_hash ?? "", body)
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
    ["the tail of another log", (sql) => splice(sql, 900), 900, /does not follow the record before it/],
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
          (sql) => sql`UPDATE audit SET body = ${body}, hash = ${chainHash(GENESIS, body)} WHERE seq = 1`
        )
        expect(verified).toEqual({ valid: false, records: 0, seq: 1, problem })
      }
    })
  )

  describe("with signed checkpoints", () => {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519")
    const signing = Audit.layer({ signingKey: privateKey, checkpointEvery: 100 }).pipe(
      Layer.provideMerge(JournalModule.layer()),
      Layer.provideMerge(Bus.layer)
    )
    const pem = publicKey.export({ type: "spki", format: "pem" }).toString()
    const untouched = () => Effect.void
    const cutTail = (sql: SqlClient.SqlClient) => sql`DELETE FROM audit WHERE seq > 1250`
    const changed = (body: string) => body.replace('"n":777', '"n":-1')

    it.scoped("an untouched file verifies, and says how far it is signed", () =>
      Effect.gen(function* () {
        // 1,500 records, and a signature after each record whose number is a multiple of 100.
        expect(
          yield* afterwards(untouched, signing, (audit) => ({
            publicKey: pem,
            maxUnsigned: 101,
            checkpoints: [audit.lastSigned() ?? { seq: 0, hash: "" }]
          }))
        ).toMatchObject({ valid: true, records: 1_515, signedTo: 1_500 })
      })
    )
    it.scoped("a tail that was rewritten, and fits, shows at the first signature in it", () =>
      Effect.gen(function* () {
        const rewrite = (sql: SqlClient.SqlClient) => rewriteTail(sql, 700, changed)
        expect(yield* afterwards(rewrite, signing, () => ({ publicKey }))).toMatchObject({
          valid: false,
          seq: 801,
          problem: "it signs another record than the one before it"
        })
      })
    )
    it.scoped("a tail that was rewritten and whose signatures were taken out shows, since it has none", () =>
      Effect.gen(function* () {
        const rewrite = (sql: SqlClient.SqlClient) =>
          rewriteTail(sql, 700, (body) => changed(body).replace('"kind":"audit.signed"', '"kind":"job.changed"'))
        expect(yield* afterwards(rewrite, signing, () => ({ publicKey, maxUnsigned: 101 }))).toMatchObject({
          valid: false,
          problem: "no record after 600 has a signature"
        })
      })
    )
    it.scoped("signatures by another key show", () =>
      Effect.gen(function* () {
        const other = generateKeyPairSync("ed25519").publicKey
        expect(yield* afterwards(untouched, signing, () => ({ publicKey: other }))).toMatchObject({
          valid: false,
          seq: 101,
          problem: "its signature is not by this key"
        })
        expect(yield* afterwards(untouched, onAnyStore, () => ({ publicKey }))).toMatchObject({
          valid: false,
          problem: "no record has a signature"
        })
      })
    )
    it.scoped("a tail that was cut off shows against a checkpoint kept elsewhere, and not without one", () =>
      Effect.gen(function* () {
        expect(yield* afterwards(cutTail, onAnyStore)).toMatchObject({ valid: true, records: 1_250 })
        const kept = (audit: Audit.AuditLogShape) => ({
          publicKey,
          checkpoints: [audit.lastSigned() ?? { seq: 0, hash: "" }]
        })
        expect(yield* afterwards(cutTail, signing, kept)).toMatchObject({
          valid: false,
          records: 1_250,
          seq: 1_250,
          problem: "a checkpoint kept elsewhere names record 1500: records were cut off the end"
        })
        const rewrite = (sql: SqlClient.SqlClient) => rewriteTail(sql, 1_400, (body) => body.replace('"n":', '"m":'))
        expect(
          yield* afterwards(rewrite, signing, (audit) => ({ checkpoints: kept(audit).checkpoints }))
        ).toMatchObject({ valid: false })
      })
    )
  })

  it.scoped("an untouched file verifies", () =>
    Effect.gen(function* () {
      expect(yield* afterwards(() => Effect.void)).toMatchObject({ valid: true, records: RECORDS })
    })
  )
})
