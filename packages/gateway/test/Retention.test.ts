import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Journal, Store } from "@postilion/gateway"
import * as Audit from "@postilion/gateway/records/AuditLog"
import * as Bus from "@postilion/gateway/records/EventBus"
import * as JournalModule from "@postilion/gateway/records/Journal"
import type { Write } from "@postilion/gateway/records/Store"
import type { TokenRow } from "@postilion/gateway/records/Tables"
import { Chunk, Effect, Layer, Stream, TestClock } from "effect"
import { gateway, stores } from "./TestGateway.ts"

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)
const onAnyStore = Audit.layer().pipe(Layer.provideMerge(JournalModule.layer()), Layer.provideMerge(Bus.layer))

for (const [name, storeLayer] of stores) {
  describe(`retention on ${name}`, () => {
    it.scoped("the audit verifies over the cut, again after more of it, and its export says where it goes on", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        const journal = yield* Journal
        const record = (count: number) =>
          Effect.forEach(
            numbers(count),
            (n) => journal.step((tx) => audit.append(tx, { kind: "job.changed", data: { n } })),
            { concurrency: "unbounded", discard: true }
          )
        yield* record(1_800)
        // Each page leaves a checkpoint: those of the first three are among the newest 300, the last one is besides.
        expect(yield* audit.prune({ maxCount: 300 })).toBe(1_503)
        expect(yield* audit.verify).toMatchObject({ valid: true, from: 1_504, records: 301 })
        expect(yield* audit.prune({ maxCount: 300 })).toBe(0)
        const [first] = Chunk.toReadonlyArray(yield* Stream.runCollect(audit.export))
        expect(JSON.parse(first ?? "")).toMatchObject({ seq: 1_504 })
        expect((yield* audit.query({ limit: 1 }))[0]?.seq).toBe(1_504)

        yield* TestClock.adjust("1 day")
        yield* record(10)
        expect(yield* audit.prune({ before: 86_400_000 })).toBeGreaterThan(300)
        expect(yield* audit.verify).toMatchObject({ valid: true })
        expect(yield* audit.query({ kind: "job.changed" })).toHaveLength(10)
      }).pipe(Effect.provide(onAnyStore), Effect.provide(storeLayer))
    )

    it.scoped("tokens that have ended go with the audit's records of it; those that count stay", () =>
      Effect.gen(function* () {
        yield* GatewayService
        const store = yield* Store
        const token = (id: string, ended: Partial<TokenRow>): Write => ({
          op: "insert",
          table: "tokens",
          row: {
            id,
            name: "ada",
            hash: id,
            scopes: "[]",
            created_at: 0,
            created_by: "ada",
            expires_at: null,
            revoked_at: null,
            revoked_by: null,
            ...ended
          }
        })
        const day = 86_400_000
        yield* store.commit([
          token("counts", {}),
          token("revoked", { revoked_at: day, revoked_by: "ada" }),
          token("expired", { expires_at: day }),
          token("lately", { revoked_at: 3 * day, revoked_by: "ada" }),
          token("still", { expires_at: 9 * day }),
          ...numbers(150).map((n) => token(`expired ${n}`, { expires_at: day }))
        ])
        const left = Effect.map(store.find("tokens", {}), (rows) => rows.map(({ id }) => id).sort())
        yield* TestClock.adjust("2 days")
        expect((yield* left).length).toBe(155)
        yield* TestClock.adjust("2 days")
        while ((yield* left).length > 3) yield* TestClock.adjust("1 minute")
        expect(yield* left).toEqual(["counts", "lately", "still"])
      }).pipe(Effect.provide(gateway({ retention: { audit: { maxAgeDays: 2 } } })), Effect.provide(storeLayer))
    )

    it.scoped("records taken out without a checkpoint show", () =>
      Effect.gen(function* () {
        const audit = yield* AuditLog
        const journal = yield* Journal
        for (const n of numbers(20)) yield* journal.step((tx) => audit.append(tx, { kind: "job.changed", data: { n } }))
        yield* audit.prune({ maxCount: 15 })
        yield* journal.step((tx) => tx.write({ op: "delete", table: "audit", where: { seq: { lte: 7 } } }))
        expect(yield* audit.verify).toMatchObject({ valid: false, seq: 8 })
      }).pipe(Effect.provide(onAnyStore), Effect.provide(storeLayer))
    )

    it.scoped("an old event stays while it is needed, and goes with its run and approval once it is not", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const store = yield* Store
        const submit = (metadata = {}, idempotencyKey?: string) =>
          Effect.map(
            gw.submit({
              source: "webhook",
              payload: {},
              metadata,
              ...(idempotencyKey === undefined ? {} : { idempotencyKey })
            }),
            ({ eventId }) => eventId
          )
        const done = yield* submit()
        yield* gw.outcome(done)
        const waiting = yield* submit({ category: "deploy" })
        const leader = yield* submit({ mergeKey: "k" })
        const member = yield* submit({ mergeKey: "k" })
        const keyed = yield* submit({}, "delivery-1")
        for (const _ of numbers(3)) yield* gw.outcome(yield* submit())
        const has = Effect.map(store.find("events", {}), (rows) => new Set(rows.map(({ id }) => id)))

        yield* TestClock.adjust("30 hours")
        for (const id of [done, waiting, leader, member, keyed]) expect(yield* has).toContain(id)
        yield* TestClock.adjust("30 hours")
        // Its tokens count in no day any more.
        expect(yield* has).not.toContain(done)
        for (const id of [waiting, leader, member, keyed]) expect(yield* has).toContain(id)
        expect(yield* submit({}, "delivery-1")).toBe(keyed)
        yield* TestClock.adjust("2 days")
        const [approval] = yield* gw.approvals
        yield* gw.deny(approval?.id ?? "", "ada")
        yield* TestClock.adjust("2 hours")
        for (const id of [waiting, keyed]) expect(yield* has).not.toContain(id)
        for (const id of [leader, member]) expect(yield* has).toContain(id)
        yield* TestClock.adjust("10 days")
        yield* TestClock.adjust("3 days")
        expect(yield* has).toHaveLength(1)
        expect(yield* store.find("approvals", {})).toEqual([])
        expect((yield* (yield* AuditLog).verify).valid).toBe(true)
      }).pipe(
        Effect.provide(
          gateway({
            policies: { requireApprovalFor: ["deploy"], mergeWindowMs: 10 * 86_400_000 },
            limits: { approvalTtlMs: 30 * 86_400_000 },
            retention: { events: { maxAgeDays: 1, maxCount: 1 }, audit: { maxCount: 5 } }
          })
        ),
        Effect.provide(storeLayer)
      )
    )
  })
}
