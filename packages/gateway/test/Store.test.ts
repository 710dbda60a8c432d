import { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { Store, StoreError } from "@postilion/gateway"
import type { Query, StoreShape, Write } from "@postilion/gateway/records/Store"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import * as StoreSql from "@postilion/gateway/records/StoreSql"
import type { EventRow, Row, RunRow, SessionRow, Table } from "@postilion/gateway/records/Tables"
import { primaryKey } from "@postilion/gateway/records/Tables"
import { Effect, FastCheck as fc } from "effect"
import { sqlite, stores, tempFile } from "./TestGateway.ts"

const event = (seq: number, change: Partial<EventRow> = {}): EventRow => ({
  seq,
  id: `evt_${seq}`,
  accepted_seq: seq,
  source: "webhook",
  agent_id: "agent",
  route: '{"by":"agentId"}',
  priority: "normal",
  timestamp: seq,
  received_at: seq,
  payload: "{}",
  metadata: "{}",
  trace_id: null,
  sender: null,
  session_key: null,
  reply_to: null,
  dedupe_key: null,
  state: "accepted",
  action: null,
  policy: null,
  reason: null,
  evidence: null,
  due_at: null,
  merge_key: null,
  merged_into: null,
  decided_at: null,
  held: 0,
  run_id: null,
  caused_by: null,
  chain_root: null,
  chain_depth: 0,
  chain_count: 0,
  ...change
})
const session = (key: string, updated_at = 0, agent_id = "agent"): SessionRow => ({ key, agent_id, updated_at })
const insert = <T extends Table>(table: T, row: Row<T>) => ({ op: "insert", table, row }) as unknown as Write
const keysOf = (rows: ReadonlyArray<SessionRow>) => rows.map(({ key }) => key)
const strange = [
  `it's "quoted" \`back\` \\slash`,
  "'; DROP TABLE sessions; --",
  "line\none\r\nline two\ttab",
  "naïve 日本語 🐎👩‍👩‍👧 \u{10ffff}",
  "nul\u0000within",
  "",
  " ",
  "%_?:$1 @x",
  "x".repeat(100_000)
]

for (const [name, layer] of stores) {
  describe(`the store: ${name}`, () => {
    it.scoped("inserts any number of rows, whole and in order", () =>
      Effect.gen(function* () {
        const store = yield* Store
        let next = 0
        for (const count of [0, 1, 3, 4, 5, 31, 32, 33, 64, 255, 256, 257, 300, 512, 1_000]) {
          const rows = Array.from({ length: count }, () => {
            next += 1
            return event(next, { payload: JSON.stringify({ next }) })
          })
          yield* store.commit(rows.map((row) => insert("events", row)))
          const found = yield* store.find("events", {
            where: { seq: { gt: next - count } },
            orderBy: ["seq", "asc"]
          })
          expect(found).toEqual(rows)
        }
        expect(yield* store.find("events", {})).toHaveLength(next)
      }).pipe(Effect.provide(layer))
    )

    it.scoped("a row's columns may come in any order", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const backwards = (row: EventRow) => Object.fromEntries(Object.entries(row).reverse()) as unknown as EventRow
        yield* store.commit([insert("events", event(1))])
        yield* store.commit([insert("events", backwards(event(2)))])
        yield* store.commit([insert("events", event(3)), insert("events", backwards(event(4)))])
        expect(yield* store.find("events", { orderBy: ["seq", "asc"] })).toEqual([1, 2, 3, 4].map((seq) => event(seq)))
      }).pipe(Effect.provide(layer))
    )

    it.scoped("gives the columns that are asked for, and no others", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit([1, 2, 3].map((seq) => insert("events", event(seq, { reason: `r${seq}` }))))
        const found = yield* store.find("events", {
          columns: ["reason", "seq"],
          where: { seq: { gt: 1 }, id: { in: ["evt_2", "evt_3"] } },
          orderBy: ["received_at", "desc"]
        })
        expect(found).toEqual([
          { reason: "r3", seq: 3 },
          { reason: "r2", seq: 2 }
        ])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("puts a row, or another in its place", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit([{ op: "put", table: "sessions", row: session("a", 1) }])
        yield* store.commit([{ op: "put", table: "sessions", row: session("a", 2, "other") }])
        expect(yield* store.find("sessions", {})).toEqual([session("a", 2, "other")])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("tells rows of a key of several columns apart, and columns that are unique besides", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const letter = (name: string, seq: number, id: string | null): Row<"push_deliveries"> => ({
          channel: "alerts",
          principal: "eve",
          name,
          seq,
          state: id === null ? "retrying" : "dead",
          attempt: 1,
          due_at: 0,
          error: null,
          id,
          died_at: null
        })
        const put = (row: Row<"push_deliveries">): Write => ({ op: "put", table: "push_deliveries", row })
        yield* store.commit([put(letter("a", 1, null)), put(letter("a", 2, null)), put(letter("b", 1, "dead_1"))])
        yield* store.commit([put(letter("a", 1, "dead_2"))])
        const found = yield* store.find("push_deliveries", { where: { state: "dead" }, orderBy: ["id", "asc"] })
        expect(found).toEqual([letter("b", 1, "dead_1"), letter("a", 1, "dead_2")])
        expect(yield* Effect.isFailure(store.commit([put(letter("a", 2, "dead_1"))]))).toBe(true)
        const own = { channel: "alerts", principal: "eve", name: "a" }
        yield* store.commit([{ op: "delete", table: "push_deliveries", where: { ...own, seq: { in: [1, 2] } } }])
        expect(yield* store.find("push_deliveries", {})).toEqual([letter("b", 1, "dead_1")])
        const message = { channel: "alerts", seq: 1, id: "m", sender: "bob", data: "null", at: 0, dedupe_key: "k" }
        yield* store.commit([insert("push_messages", message)])
        const again = insert("push_messages", { ...message, seq: 2 })
        expect(yield* Effect.isFailure(store.commit([again]))).toBe(true)
        expect(yield* store.find("push_messages", { where: { channel: "alerts", seq: { gte: 1, lt: 3 } } })).toEqual([
          message
        ])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("updates the row of a key, and none where there is none", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit([insert("events", event(1)), insert("events", event(2))])
        yield* store.commit([
          {
            op: "update",
            table: "events",
            key: { id: "evt_1" },
            set: { state: "executed", reason: "it's", due_at: 5 }
          },
          { op: "update", table: "events", key: { id: "evt_9" }, set: { state: "executed" } }
        ])
        expect(yield* store.find("events", { orderBy: ["seq", "asc"] })).toEqual([
          event(1, { state: "executed", reason: "it's", due_at: 5 }),
          event(2)
        ])
        yield* store.commit([
          { op: "update", table: "events", key: { id: "evt_1" }, set: { reason: null, due_at: null } }
        ])
        expect(yield* store.find("events", { where: { id: "evt_1" } })).toEqual([event(1, { state: "executed" })])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("deletes what matches, and nothing else", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit(
          [session("a"), session("b", 0, "x"), session("c", 0, "x")].map((row) => insert("sessions", row))
        )
        yield* store.commit([{ op: "delete", table: "sessions", where: { key: "nobody" } }])
        yield* store.commit([{ op: "delete", table: "sessions", where: { agent_id: "x", key: "b" } }])
        expect(keysOf(yield* store.find("sessions", { orderBy: ["key", "asc"] }))).toEqual(["a", "c"])
        yield* store.commit([{ op: "delete", table: "sessions", where: { agent_id: "x" } }])
        expect(keysOf(yield* store.find("sessions", {}))).toEqual(["a"])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("inserts come before all else in a commit, the rest in its order", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit([
          { op: "update", table: "events", key: { id: "evt_1" }, set: { state: "deferred" } },
          { op: "update", table: "events", key: { id: "evt_1" }, set: { state: "executed" } },
          { op: "delete", table: "sessions", where: { key: "a" } },
          { op: "put", table: "sessions", row: session("b", 1) },
          { op: "put", table: "sessions", row: session("b", 2) },
          insert("sessions", session("a")),
          insert("events", event(1))
        ])
        expect(yield* store.find("events", {})).toEqual([event(1, { state: "executed" })])
        expect(yield* store.find("sessions", {})).toEqual([session("b", 2)])
      }).pipe(Effect.provide(layer))
    )

    describe("a write that cannot be made undoes the whole commit", () => {
      const base = [event(1, { dedupe_key: "d1" }), event(2, { dedupe_key: "d2" })]
      const failing: ReadonlyArray<readonly [string, ReadonlyArray<Write>]> = [
        ["a second row of one primary key", [insert("events", event(3)), insert("events", event(4, { id: "evt_1" }))]],
        [
          "a second row of one unique number",
          [insert("events", event(3)), insert("events", event(1, { id: "evt_x" }))]
        ],
        [
          "a second row of one unique text",
          [insert("events", event(3)), insert("events", event(4, { dedupe_key: "d1" }))]
        ],
        [
          "two new rows of one unique text",
          [insert("events", event(3, { dedupe_key: "n" })), insert("events", event(4, { dedupe_key: "n" }))]
        ],
        [
          "a put that takes another's unique text",
          [{ op: "put", table: "events", row: event(2, { dedupe_key: "d1" }) }]
        ],
        [
          "an update that takes another's unique text",
          [{ op: "update", table: "events", key: { id: "evt_2" }, set: { dedupe_key: "d1" } }]
        ],
        [
          "the last of many",
          [
            insert("events", event(3, { dedupe_key: "d3" })),
            { op: "put", table: "sessions", row: session("a", 9) },
            { op: "update", table: "events", key: { id: "evt_1" }, set: { dedupe_key: null, state: "executed" } },
            { op: "delete", table: "events", where: { id: "evt_2" } },
            { op: "update", table: "events", key: { id: "evt_3" }, set: { seq: 1 } }
          ]
        ]
      ]
      for (const [what, writes] of failing) {
        it.scoped(what, () =>
          Effect.gen(function* () {
            const store = yield* Store
            yield* store.commit([...base.map((row) => insert("events", row)), insert("sessions", session("a"))])
            const error = yield* Effect.flip(store.commit(writes))
            expect(error).toBeInstanceOf(StoreError)
            expect(error.message).not.toBe("")
            expect(yield* store.find("events", { orderBy: ["seq", "asc"] })).toEqual(base)
            expect(yield* store.find("sessions", {})).toEqual([session("a")])
            // Nothing is left behind that would be in the way of what comes next.
            yield* store.commit([
              insert("events", event(3, { dedupe_key: "n" })),
              insert("events", event(4, { id: "evt_x", dedupe_key: "d3" }))
            ])
            expect(yield* store.find("events", {})).toHaveLength(4)
            for (const { dedupe_key, id } of base) {
              expect(yield* store.find("events", { where: { dedupe_key } })).toMatchObject([{ id }])
            }
          }).pipe(Effect.provide(layer))
        )
      }
    })

    it.scoped("a value that is free again may be taken by another", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit([insert("events", event(1, { dedupe_key: "d" }))])
        yield* store.commit([{ op: "update", table: "events", key: { id: "evt_1" }, set: { dedupe_key: null } }])
        yield* store.commit([insert("events", event(2, { dedupe_key: "d" }))])
        yield* store.commit([{ op: "delete", table: "events", where: { id: "evt_2" } }])
        yield* store.commit([insert("events", event(2, { dedupe_key: "d", id: "evt_3" }))])
        expect(yield* store.find("events", { where: { dedupe_key: "d" } })).toMatchObject([{ id: "evt_3" }])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("finds by value, by one of several, by null, within bounds, in order, so many", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const due = [5, null, 3, null, 4, 1]
        yield* store.commit(
          due.map((due_at, i) => insert("events", event(i + 1, { due_at, agent_id: i % 2 === 0 ? "a" : "b" })))
        )
        const seqs = (query: Query<"events">) =>
          Effect.map(store.find("events", { orderBy: ["seq", "asc"], ...query }), (rows) => rows.map(({ seq }) => seq))
        expect(yield* seqs({ where: { agent_id: "a" } })).toEqual([1, 3, 5])
        expect(yield* seqs({ where: { agent_id: "a", due_at: 4 } })).toEqual([5])
        expect(yield* seqs({ where: { agent_id: "nobody" } })).toEqual([])
        expect(yield* seqs({ where: { due_at: null } })).toEqual([2, 4])
        expect(yield* seqs({ where: { due_at: undefined, agent_id: "b" } })).toEqual([2, 4, 6])
        expect(yield* seqs({ where: { id: { in: ["evt_6", "evt_2", "evt_9"] } } })).toEqual([2, 6])
        expect(yield* seqs({ where: { seq: { in: [6, 2] } } })).toEqual([2, 6])
        expect(yield* seqs({ where: { agent_id: { in: ["b"] } } })).toEqual([2, 4, 6])
        expect(yield* seqs({ where: { id: { in: [] } } })).toEqual([])
        expect(yield* seqs({ where: { agent_id: { in: [] } } })).toEqual([])
        expect(yield* seqs({ where: { due_at: { gt: 3 } } })).toEqual([1, 5])
        expect(yield* seqs({ where: { due_at: { gte: 3, lt: 5 } } })).toEqual([3, 5])
        expect(yield* seqs({ where: { due_at: { lte: 3 } } })).toEqual([3, 6])
        expect(yield* seqs({ where: { seq: { gt: 2, lte: 4 }, agent_id: "b" } })).toEqual([4])
        expect(yield* seqs({ where: { due_at: { gte: 1 } }, orderBy: ["due_at", "desc"] })).toEqual([1, 5, 3, 6])
        expect(yield* seqs({ orderBy: ["seq", "desc"], limit: 2 })).toEqual([6, 5])
        expect(yield* seqs({ limit: 0 })).toEqual([])
        // Null comes before every value.
        const byDue = yield* store.find("events", { orderBy: ["due_at", "asc"] })
        expect(byDue.map(({ due_at }) => due_at)).toEqual([null, null, 1, 3, 4, 5])
        const downwards = yield* store.find("events", { orderBy: ["due_at", "desc"] })
        expect(downwards.map(({ due_at }) => due_at)).toEqual([5, 4, 3, 1, null, null])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("keeps every text as it is: as a key, as a value, and in a search", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit(strange.map((key, i) => insert("sessions", session(key, i, key))))
        for (const [i, key] of strange.entries()) {
          expect(yield* store.find("sessions", { where: { key } })).toEqual([session(key, i, key)])
          expect(yield* store.find("sessions", { where: { agent_id: { in: [key] } } })).toHaveLength(1)
        }
        for (const key of strange)
          yield* store.commit([{ op: "update", table: "sessions", key: { key }, set: { agent_id: `${key}!` } }])
        expect(yield* store.find("sessions", { where: { agent_id: `${strange[4]}!` } })).toHaveLength(1)
        for (const key of strange) yield* store.commit([{ op: "delete", table: "sessions", where: { key } }])
        expect(yield* store.find("sessions", {})).toEqual([])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("adds up what is alike, those of most rows first; what has no value is counted apart", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const totals = { by: ["source", "due_at"], sum: ["seq", "decided_at"], limit: 10 } as const
        expect(yield* store.totals("events", { ...totals, where: {} })).toEqual([])
        expect(yield* store.totals("events", { where: {}, by: [], sum: ["seq"], limit: 10 })).toEqual([])
        yield* store.commit([
          insert("events", event(1, { decided_at: 10 })),
          insert("events", event(2)),
          insert("events", event(3, { decided_at: 0 })),
          insert("events", event(4, { source: "cron", due_at: 7 })),
          insert("events", event(5, { source: "cron", due_at: 7 })),
          insert("events", event(6, { source: "cron" }))
        ])
        const sums = (seq: number, rows: number, decided: number, of: number) => ({
          rows,
          sums: { seq: { total: seq, of: rows }, decided_at: { total: decided, of } }
        })
        const groups = [
          { key: { source: "webhook", due_at: null }, ...sums(6, 3, 10, 2) },
          { key: { source: "cron", due_at: 7 }, ...sums(9, 2, 0, 0) },
          { key: { source: "cron", due_at: null }, ...sums(6, 1, 0, 0) }
        ]
        expect(yield* store.totals("events", { ...totals, where: {} })).toEqual(groups)
        expect(yield* store.totals("events", { ...totals, where: {}, limit: 2 })).toEqual(groups.slice(0, 2))
        expect(yield* store.totals("events", { ...totals, where: { seq: { gt: 3 }, due_at: null } })).toEqual(
          groups.slice(2)
        )
        expect(yield* store.totals("events", { where: { source: "cron" }, by: [], sum: ["seq"], limit: 1 })).toEqual([
          { key: {}, rows: 3, sums: { seq: { total: 15, of: 3 } } }
        ])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("keeps numbers as they are, and what is found is not the store's own", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const run: RunRow = {
          id: "run_1",
          event_id: "evt_1",
          agent_id: "agent",
          source: "webhook",
          session_key: null,
          state: "completed",
          attempt: 1,
          lease_until: null,
          worker: null,
          task: "t",
          reserved_usd: 0.1 + 0.2,
          reserved_tokens: Number.MAX_SAFE_INTEGER,
          input_tokens: 0,
          output_tokens: 1,
          cost_usd: 0.1 + 0.2,
          model: null,
          text: null,
          error: null,
          created_at: -1,
          started_at: 1_700_000_000_000,
          ended_at: null
        }
        yield* store.commit([insert("runs", run)])
        const [found] = yield* store.find("runs", {})
        expect(found).toEqual(run)
        // A change may name more than the key: what an earlier attempt comes to changes nothing of a later one.
        yield* store.commit([{ op: "update", table: "runs", key: { id: "run_1", attempt: 0 }, set: { text: "late" } }])
        expect(yield* store.find("runs", {})).toEqual([run])
        Object.assign(found ?? {}, { task: "changed" })
        Object.assign(run, { task: "changed" })
        expect(yield* store.find("runs", {})).toMatchObject([{ task: "t" }])
      }).pipe(Effect.provide(layer))
    )
  })
}

describe("both kinds of store", () => {
  const keys = fc.constantFrom("a", "b", "c", "A", "a:1:2", "a:1_2", "🐎")
  const number = fc.integer({ min: 0, max: 5 })
  const row: fc.Arbitrary<EventRow> = fc
    .record({
      id: keys,
      seq: number,
      dedupe_key: fc.option(fc.constantFrom("x", "y", "z")),
      due_at: fc.option(number),
      agent_id: fc.constantFrom("m", "n")
    })
    .map((change) => event(change.seq, change))
  const change: fc.Arbitrary<Partial<EventRow>> = fc.oneof(
    fc.option(number).map((due_at) => ({ due_at })),
    fc.option(fc.constantFrom("x", "y", "z")).map((dedupe_key) => ({ dedupe_key })),
    fc.tuple(number, fc.option(keys)).map(([seq, reason]) => ({ seq, reason }))
  )
  const write: fc.Arbitrary<Write> = fc.oneof(
    row.map((row) => insert("events", row)),
    row.map((row): Write => ({ op: "put", table: "events", row })),
    fc.tuple(keys, change).map(([id, set]): Write => ({ op: "update", table: "events", key: { id }, set })),
    fc
      .oneof(
        keys.map((id) => ({ id })),
        fc.constantFrom("m", "n").map((agent_id) => ({ agent_id })),
        fc.option(number).map((due_at) => ({ due_at }))
      )
      .map((where): Write => ({ op: "delete", table: "events", where })),
    fc.tuple(keys, number).map(([key, at]): Write => ({ op: "put", table: "sessions", row: session(key, at) }))
  )
  const bounds = fc
    .record({ gt: number, gte: number, lt: number, lte: number }, { requiredKeys: [] })
    .filter((found) => Object.keys(found).length > 0)
  const query: fc.Arbitrary<Query<"events">> = fc.record(
    {
      where: fc.record(
        {
          id: fc.oneof(keys, fc.record({ in: fc.array(keys) })),
          due_at: fc.oneof(fc.option(number), bounds, fc.record({ in: fc.array(number) })),
          dedupe_key: fc.oneof(
            fc.option(fc.constantFrom("x", "y")),
            fc.record({ in: fc.array(fc.constantFrom("x", "z")) })
          ),
          agent_id: fc.constantFrom("m", "n")
        },
        { requiredKeys: [] }
      ),
      // Unique, so that both stores order, and cut off, the same rows.
      orderBy: fc.tuple(fc.constant("seq" as const), fc.constantFrom("asc" as const, "desc" as const)),
      limit: fc.integer({ min: 0, max: 4 })
    },
    { requiredKeys: ["orderBy"] }
  )
  const operation = fc.oneof(
    { weight: 3, arbitrary: fc.array(write, { maxLength: 4 }).map((writes) => ({ writes })) },
    { weight: 2, arbitrary: query.map((query) => ({ query })) }
  )

  it.scoped("after any commits, some of which fail, find the same", () =>
    Effect.gen(function* () {
      const sql = yield* Store
      const clear: ReadonlyArray<Write> = (["events", "sessions"] as const).map(
        (table): Write => ({ op: "delete", table, where: {} })
      )
      const sorted = <T extends Table>(table: T, rows: ReadonlyArray<Row<T>>) => {
        const [key = ""] = primaryKey[table] as ReadonlyArray<string>
        const of = (row: Row<T>) => String((row as unknown as Record<string, unknown>)[key])
        return [...rows].sort((a, b) => (of(a) < of(b) ? -1 : 1))
      }
      let failed = 0
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(fc.array(operation, { maxLength: 12 }), (operations) =>
            Effect.runPromise(
              Effect.gen(function* () {
                const memory = StoreMemory.make()
                yield* sql.commit(clear)
                for (const operation of operations) {
                  if ("query" in operation) {
                    expect(yield* memory.find("events", operation.query)).toEqual(
                      yield* sql.find("events", operation.query)
                    )
                    continue
                  }
                  const ok = yield* Effect.isSuccess(sql.commit(operation.writes))
                  if (!ok) failed += 1
                  expect(yield* Effect.isSuccess(memory.commit(operation.writes))).toBe(ok)
                  const all = (store: StoreShape) =>
                    Effect.all([
                      Effect.map(store.find("events", {}), (rows) => sorted("events", rows)),
                      Effect.map(store.find("sessions", {}), (rows) => sorted("sessions", rows))
                    ])
                  expect(yield* all(memory)).toEqual(yield* all(sql))
                }
              })
            )
          ),
          { numRuns: 500 }
        )
      )
      expect(failed).toBeGreaterThan(50)
    }).pipe(Effect.provide(sqlite(":memory:")))
  )
})

describe("migrations", () => {
  it("have ids that only ever grow, each once", () => {
    const ids = Object.keys(StoreSql.migrations).map((name) => Number(/^(\d{4})_\w+$/.exec(name)?.[1]))
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b))
    expect(ids.every((id) => id > 0)).toBe(true)
  })

  it.scoped("run once: a file that is opened again keeps its rows, and is the same", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const schema = Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => sql`SELECT type, name, sql FROM sqlite_master ORDER BY name`
      )
      const first = yield* Effect.gen(function* () {
        yield* (yield* Store).commit([insert("sessions", session("a"))])
        return yield* schema
      }).pipe(Effect.provide(sqlite(file)))
      for (let i = 0; i < 2; i++) {
        yield* Effect.gen(function* () {
          expect(yield* schema).toEqual(first)
          expect(yield* (yield* Store).find("sessions", {})).toEqual([session("a")])
          const sql = yield* SqlClient.SqlClient
          const done = yield* sql`SELECT migration_id FROM postilion_migrations`
          expect(done).toHaveLength(Object.keys(StoreSql.migrations).length)
        }).pipe(Effect.provide(sqlite(file)))
      }
    })
  )

  it.scoped("a database that cannot be brought up to date says so", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        Effect.zipRight(sql`DELETE FROM postilion_migrations`, sql`DROP TABLE runs`)
      ).pipe(Effect.provide(sqlite(file)))
      const error = yield* Effect.flip(Effect.provide(Store, sqlite(file)))
      expect(error).toBeInstanceOf(StoreError)
      expect(error.message).toContain("could not be brought up to date")
      expect(error.message).toContain("events already exists")
    })
  )

  it.scoped("reading a file that is not what it should be fails, and says of what", () =>
    Effect.gen(function* () {
      const store = yield* Store
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`DROP TABLE sessions`)
      const error = yield* Effect.flip(store.find("sessions", {}))
      expect(error.message).toBe("reading sessions failed: no such table: sessions")
    }).pipe(Effect.provide(sqlite(":memory:")))
  )
})
