import { SessionLine } from "@postilion/client/api/Sessions"
import {
  type AuditLog,
  BudgetLedger,
  type Delivery,
  KillSwitch,
  SessionStore,
  Store,
  type StoreError
} from "@postilion/gateway"
import type { BudgetRange } from "@postilion/gateway/domain/Budget"
import { parseZone } from "@postilion/gateway/domain/Calendar"
import { ReplyRoute } from "@postilion/gateway/domain/Delivery"
import * as AuditModule from "@postilion/gateway/records/AuditLog"
import * as Ledger from "@postilion/gateway/records/BudgetLedger"
import * as Bus from "@postilion/gateway/records/EventBus"
import { toDelivery } from "@postilion/gateway/records/EventCodec"
import * as EventList from "@postilion/gateway/records/EventList"
import { explain } from "@postilion/gateway/records/Explain"
import * as Journal from "@postilion/gateway/records/Journal"
import * as Lookup from "@postilion/gateway/records/Lookup"
import * as RunList from "@postilion/gateway/records/RunList"
import * as Sessions from "@postilion/gateway/records/SessionStore"
import * as Spending from "@postilion/gateway/records/Spending"
import type { Rows } from "@postilion/gateway/records/Tables"
import * as Switch from "@postilion/gateway/runs/KillSwitch"
import { historyOf } from "@postilion/gateway/sources/JobHistory"
import { toEntry, toJob } from "@postilion/gateway/sources/Jobs"
import { upcoming } from "@postilion/gateway/sources/ScheduleClock"
import type { Records } from "@postilion/server"
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
    const found = yield* Lookup.runOf(yield* Store, id)
    return found ?? (yield* failed(`there is no run "${id}"`, "`postilion runs list` lists them"))
  })

export const explanation = (eventId: string) =>
  Effect.gen(function* () {
    const found = yield* explain(yield* Store, eventId)
    return found ?? (yield* failed(`there is no event "${eventId}"`, "`postilion events list` lists them"))
  })

export const event = (eventId: string) =>
  Effect.gen(function* () {
    const found = yield* Lookup.eventOf(yield* Store, eventId)
    return found ?? (yield* failed(`there is no event "${eventId}"`, "`postilion events list` lists them"))
  })

export const approvals = Effect.map(Effect.flatMap(Store, Lookup.approvalsOf), (approvals) => ({ approvals }))

export const approval = (approvalId: string) =>
  Effect.gen(function* () {
    const found = yield* Lookup.approvalOf(yield* Store, approvalId)
    return found ?? (yield* failed(`there is no approval "${approvalId}"`, "`postilion approvals list` lists them"))
  })

export const deliveries = (state: Delivery["state"], limit: number) =>
  Effect.gen(function* () {
    const store = yield* Store
    const rows = yield* store.find("deliveries", { where: { state }, orderBy: ["seq", "asc"], limit })
    return { deliveries: rows.map(toDelivery) }
  })

const decodeRoute = Schema.decodeSync(Schema.parseJson(ReplyRoute))

/** The jobs there are, by when they are next due. Where their answers go need not be there now. */
const entries = Effect.gen(function* () {
  const store = yield* Store
  const rows = yield* store.find("jobs", {})
  return rows
    .flatMap(({ deliver_to, ...row }) => {
      const entry = toEntry({ ...row, deliver_to: null }, new Set())
      const deliverTo = deliver_to === null ? undefined : decodeRoute(deliver_to)
      return Either.isRight(entry) ? [{ ...entry.right, deliverTo }] : []
    })
    .sort((a, b) => (a.row.next_at ?? Number.MAX_VALUE) - (b.row.next_at ?? Number.MAX_VALUE))
})
export const jobs = Effect.map(entries, (found) => ({ jobs: found.map(toJob) }))

/** Instants that are shown of what is to come. */
const SHOWN = 5

export const job = (jobId: string, limit: number) =>
  Effect.gen(function* () {
    const store = yield* Store
    const now = yield* Clock.currentTimeMillis
    const entry = (yield* entries).find(({ row }) => row.id === jobId)
    if (entry === undefined) return yield* failed(`there is no job "${jobId}"`, "`postilion cron list` lists them")
    return {
      job: toJob(entry),
      next: upcoming(entry.compiled, now, SHOWN).map((at) => new Date(at)),
      history: yield* historyOf(store, jobId, entry, now, { limit })
    }
  })

const serverRecords = Effect.promise(async () => (await import("@postilion/server")).Records)

interface StoredTokens {
  readonly tokens: ReadonlyArray<Records.StoredToken>
}
export const tokens: Effect.Effect<StoredTokens, StoreError, Store> = Effect.gen(function* () {
  return { tokens: yield* (yield* serverRecords).tokens(yield* Store) }
})
interface StoredLetters {
  readonly deadLetters: ReadonlyArray<Records.DeadLetter>
}
export const deadLetters = (limit: number): Effect.Effect<StoredLetters, StoreError, Store> =>
  Effect.gen(function* () {
    return { deadLetters: yield* (yield* serverRecords).deadLetters(yield* Store, { limit }) }
  })

export const sessions = (page: { readonly cursor: string | undefined; readonly limit: number }) =>
  withSubsystems(
    Effect.gen(function* () {
      return yield* (yield* serverRecords).sessions(yield* SessionStore, page)
    })
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

const withGovernors = <A, E, R>({ config }: Loaded, effect: Effect.Effect<A, E, R>) =>
  Effect.provide(effect, Layer.provide(Layer.merge(Ledger.layer(config), Switch.layer), subsystems))

export const budget = (loaded: Loaded, range: BudgetRange) =>
  Effect.gen(function* () {
    const { timezone } = loaded.config
    const zone = Option.fromNullable(parseZone(timezone))
    if (Option.isNone(zone)) return yield* misconfigured(`"${timezone}" is no time zone`)
    const now = yield* Clock.currentTimeMillis
    const ledger = yield* BudgetLedger
    const budgets = ledger.budgets(now).map(({ estimate: _, ...one }) => one)
    return { budgets, rate: ledger.rate(now), ...(yield* Spending.report(range, zone.value, now)) }
  }).pipe((effect) => withGovernors(loaded, effect))

export const agents = (loaded: Loaded) =>
  Effect.map(KillSwitch, (killSwitch) => ({
    agents: Object.keys(loaded.config.agents).map((id) => ({ id, mode: killSwitch.mode(id) }))
  })).pipe((effect) => withGovernors(loaded, effect))

/** How many rows there are in each of these states. */
const countsOf = <T extends "deliveries" | "events" | "runs", const S extends Rows[T]["state"]>(
  table: T,
  ...states: ReadonlyArray<S>
) =>
  Effect.gen(function* () {
    const store = yield* Store
    const found = yield* store.totals(table, { where: {}, by: ["state"], sum: [], limit: 100 })
    return Object.fromEntries(
      states.map((state) => [state, found.find(({ key }) => key.state === state)?.rows ?? 0])
    ) as { readonly [K in S]: number }
  })

/** What a gateway that does not run left to be done, and what it may use: what only one that runs has is not there. */
export const status = (loaded: Loaded) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const ledger = yield* BudgetLedger
    const { limit, reserved, resetsAt, used } = ledger.budget(now)
    const events = yield* countsOf("events", "accepted", "deferred", "merging", "awaiting-approval")
    const runs = yield* countsOf("runs", "pending", "running")
    const due = (yield* entries).flatMap(({ delay, row: { enabled, next_at } }) =>
      enabled === 1 && next_at !== null ? [next_at + delay] : []
    )
    return {
      isRunning: false as const,
      budget: { limit, used, reserved, resetsAt },
      rate: ledger.rate(now),
      pending: {
        undecided: events.accepted,
        queued: events.deferred,
        merging: events.merging,
        awaitingApproval: events["awaiting-approval"],
        waiting: runs.pending,
        running: runs.running
      },
      deliveries: yield* countsOf("deliveries", "prepared", "sending", "unknown", "failed", "sent"),
      scheduler: {
        running: false,
        jobs: (yield* entries).length,
        nextWake: due.length === 0 ? undefined : new Date(Math.min(...due)),
        stalled: false
      },
      switches: Object.fromEntries((yield* KillSwitch).modes())
    }
  }).pipe((effect) => withGovernors(loaded, effect))
