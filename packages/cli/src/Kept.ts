import { SessionLine } from "@postilion/client/api/Sessions"
import { type AuditLog, BudgetLedger, type Delivery, SessionStore, Store, type StoreError } from "@postilion/gateway"
import type { BudgetRange } from "@postilion/gateway/domain/Budget"
import { parseZone } from "@postilion/gateway/domain/Calendar"
import * as AuditModule from "@postilion/gateway/records/AuditLog"
import * as Ledger from "@postilion/gateway/records/BudgetLedger"
import * as Bus from "@postilion/gateway/records/EventBus"
import { toApproval, toDelivery, toRun } from "@postilion/gateway/records/EventCodec"
import * as EventList from "@postilion/gateway/records/EventList"
import { explain } from "@postilion/gateway/records/Explain"
import * as Journal from "@postilion/gateway/records/Journal"
import * as RunList from "@postilion/gateway/records/RunList"
import * as Sessions from "@postilion/gateway/records/SessionStore"
import * as Spending from "@postilion/gateway/records/Spending"
import { toEntry, toJob } from "@postilion/gateway/sources/Jobs"
import { Clock, Effect, Either, Layer, Option, Schema, Stream } from "effect"
import type { Loaded } from "./Configuration.ts"
import { failed, misconfigured } from "./Failure.ts"

// What a gateway would answer, read from its records while none runs. The shapes are the API's.

/** Subsystems on records that are only read: none of them writes by itself. */
const subsystems = Sessions.layer.pipe(
  Layer.provideMerge(AuditModule.layer()),
  Layer.provideMerge(Journal.layer()),
  Layer.provide(Bus.layer)
)

/** Gives the audit and the sessions of records that are only read. */
export const withSubsystems = <A, E, R>(
  effect: Effect.Effect<A, E, R | AuditLog | SessionStore>
): Effect.Effect<A, E | StoreError, Exclude<R, AuditLog | SessionStore | Journal.Journal> | Store> =>
  Effect.provide(effect, subsystems)

export const events = ({ cursor, ...filter }: EventList.EventFilter & { readonly cursor: string | undefined }) =>
  Effect.gen(function* () {
    const before = cursor === undefined ? undefined : Number(cursor)
    if (before !== undefined && !Number.isInteger(before)) {
      return yield* failed(`"${cursor}" is not the \`next\` of a page of events`, "leave --cursor out to begin")
    }
    const { events, next } = yield* EventList.list(yield* Store, { ...filter, before })
    return { events, next: next === undefined ? null : String(next) }
  })

export const runs = ({ cursor, ...filter }: RunList.RunFilter & { readonly cursor: string | undefined }) =>
  Effect.map(
    Effect.flatMap(Store, (store) => RunList.list(store, { ...filter, before: cursor })),
    ({ next = null, runs }) => ({ runs, next })
  )

export const run = (id: string) =>
  Effect.gen(function* () {
    const [row] = yield* (yield* Store).find("runs", { where: { id } })
    return row === undefined ? yield* failed(`there is no run "${id}"`, "`postilion runs list` lists them") : toRun(row)
  })

export const explanation = (eventId: string) =>
  Effect.gen(function* () {
    const found = yield* explain(yield* Store, eventId)
    return found ?? (yield* failed(`there is no event "${eventId}"`, "`postilion events list` lists them"))
  })

export const approvals = Effect.gen(function* () {
  const store = yield* Store
  const rows = yield* store.find("approvals", {
    where: { state: "pending" },
    orderBy: ["requested_at", "asc"],
    limit: 1_000
  })
  const ids = rows.map(({ id }) => id)
  const votes = ids.length === 0 ? [] : yield* store.find("votes", { where: { approval_id: { in: ids } } })
  return { approvals: rows.map((row) => toApproval(row, votes)) }
})

export const deliveries = (state: Delivery["state"], limit: number) =>
  Effect.gen(function* () {
    const store = yield* Store
    const rows = yield* store.find("deliveries", { where: { state }, orderBy: ["seq", "asc"], limit })
    return { deliveries: rows.map(toDelivery) }
  })

export const jobs = Effect.gen(function* () {
  const store = yield* Store
  const rows = yield* store.find("jobs", { orderBy: ["next_at", "asc"] })
  const entries = rows.map((row) => toEntry({ ...row, deliver_to: null }, new Set()))
  return { jobs: entries.flatMap((entry) => (Either.isRight(entry) ? [toJob(entry.right)] : [])) }
})

export const sessions = (limit: number) =>
  withSubsystems(
    Effect.map(
      Effect.flatMap(SessionStore, (store) => store.list({ limit })),
      (found) => ({ sessions: found, next: null })
    )
  )

export const session = (key: string, limit: number) =>
  withSubsystems(
    Effect.gen(function* () {
      const store = yield* SessionStore
      const found = yield* store.get(key)
      if (found === undefined) {
        return yield* failed(`there is no session "${key}"`, "`postilion sessions list` lists them")
      }
      return { session: found, turns: yield* store.turns(key, { limit }) }
    })
  )

const encodeLine = Schema.encodeSync(Schema.parseJson(SessionLine))
/** Every session, then its turns, as lines. */
export const sessionLines = Effect.map(SessionStore, (store) => Stream.map(store.export, (line) => encodeLine(line)))

export const budget = ({ config }: Loaded, range: BudgetRange) =>
  Effect.gen(function* () {
    const zone = Option.fromNullable(parseZone(config.timezone))
    if (Option.isNone(zone)) return yield* misconfigured(`"${config.timezone}" is no time zone`)
    const now = yield* Clock.currentTimeMillis
    const ledger = yield* BudgetLedger
    const budgets = ledger.budgets(now).map(({ estimate: _, ...one }) => one)
    return { budgets, rate: ledger.rate(now), ...(yield* Spending.report(range, zone.value, now)) }
  }).pipe(Effect.provide(Ledger.layer(config).pipe(Layer.provide(subsystems))))
