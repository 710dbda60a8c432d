import { Clock, Effect } from "effect"
import type { GatewayError } from "../domain/Errors.ts"
import type { RetentionConfig } from "../domain/LimitsConfig.ts"
import { AuditLog } from "./AuditLog.ts"
import { BudgetLedger } from "./BudgetLedger.ts"
import { Journal } from "./Journal.ts"
import { Store, type StoreError } from "./Store.ts"
import type { DeliveryRow, EventRow, RunRow, SlotRow } from "./Tables.ts"

const DAY = 86_400_000

/** Days an event with an idempotency key stays, however many there are: senders try again for up to three. */
export const DEDUPE_DAYS = 3
/** Ticks of each agent's heartbeat that stay, however old: what its skips in a row are counted from. */
export const KEPT_TICKS = 100
/** Rows looked at, and removed, in one step. */
const PAGE = 100

const OPEN: ReadonlySet<EventRow["state"]> = new Set(["accepted", "deferred", "merging", "awaiting-approval"])
/** Nobody has to see to these any more. */
const DELIVERED: ReadonlySet<DeliveryRow["state"]> = new Set(["sent", "dropped"])
const CLOSED_SLOTS: ReadonlyArray<SlotRow["state"]> = ["ran", "caught-up", "skipped", "abandoned"]
const UNDER_WAY: ReadonlySet<RunRow["state"]> = new Set(["pending", "running"])

export interface Pruned {
  readonly events: number
  readonly turns: number
  readonly audit: number
  readonly tokens: number
}

/**
 * Removes what is older or more than `retention` says, a few rows a step, so that nothing else waits for it.
 *
 * Stays all the same: an event that is not decided, or waits; one that was merged into such a one; one whose run is under
 * way or counts in a budget's window that is; one whose answer is still to be sent, or seen to; one with an idempotency key, for three days; the last hundred ticks of each
 * agent and the last event it had besides; turns of a session that `isActive`. Tokens that do not count any more go with the
 * records of the audit that tell of their end.
 */
export const make = (retention: RetentionConfig, agents: () => ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger

    /** Instants and counts from which on rows are kept. */
    const limitsOf = ({ maxAgeDays, maxCount }: RetentionConfig["events"], now: number) => ({
      before: maxAgeDays === "forever" ? Number.NEGATIVE_INFINITY : now - maxAgeDays * DAY,
      maxCount: maxCount === "forever" ? Number.POSITIVE_INFINITY : maxCount
    })

    /** The events each agent's heartbeat is to remember, and the very last of all, which numbers go on from. */
    const remembered = Effect.gen(function* () {
      const ids = new Set<string>()
      for (const agent_id of agents()) {
        const where = { agent_id, source: "heartbeat" } as const
        const ticks = yield* store.find("events", { where, orderBy: ["seq", "desc"], limit: KEPT_TICKS })
        for (const { id } of ticks) ids.add(id)
        // Almost always the first: what else happens to an agent is more than what its heartbeat does.
        for (let size = 1; ; size *= 10) {
          const recent = yield* store.find("events", { where: { agent_id }, orderBy: ["seq", "desc"], limit: size })
          const other = recent.find(({ source }) => source !== "heartbeat")
          if (other !== undefined) ids.add(other.id)
          if (other !== undefined || recent.length < size || size > KEPT_TICKS) break
        }
      }
      const [last] = yield* store.find("events", { orderBy: ["seq", "desc"], limit: 1 })
      if (last !== undefined) ids.add(last.id)
      return { ids, lastSeq: last?.seq ?? 0 }
    })

    const events = (now: number) =>
      Effect.gen(function* () {
        const { before, maxCount } = limitsOf(retention.events, now)
        // A day more: after a restart with another time zone, the window may have begun earlier.
        const counted = ledger.countsFrom(now) - DAY
        const { ids, lastSeq } = yield* remembered
        let after = 0
        let removed = 0
        while (true) {
          const rows = yield* store.find("events", {
            where: { seq: { gt: after } },
            orderBy: ["seq", "asc"],
            limit: PAGE
          })
          const end = rows.findIndex((row) => row.received_at >= before && row.seq > lastSeq - maxCount)
          const surplus = end === -1 ? rows : rows.slice(0, end)
          const last = surplus.at(-1)
          if (last === undefined) return removed
          after = last.seq
          const closed = surplus.filter(
            ({ dedupe_key, id, received_at, state }) =>
              !OPEN.has(state) && !ids.has(id) && (dedupe_key === null || received_at < now - DEDUPE_DAYS * DAY)
          )
          const runs = yield* store.find("runs", { where: { event_id: { in: closed.map(({ id }) => id) } } })
          const leaders = yield* store.find("events", {
            where: { id: { in: closed.flatMap(({ merged_into }) => (merged_into === null ? [] : [merged_into])) } }
          })
          const deliveries = yield* store.find("deliveries", {
            where: { event_id: { in: closed.map(({ id }) => id) } }
          })
          const needed = new Set([
            ...deliveries.filter(({ state }) => !DELIVERED.has(state)).map(({ event_id }) => event_id),
            ...runs
              .filter(({ created_at, state }) => UNDER_WAY.has(state) || created_at >= counted)
              .map(({ event_id }) => event_id),
            ...leaders.filter(({ state }) => OPEN.has(state)).map(({ id }) => id)
          ])
          const gone = closed.filter(({ id, merged_into }) => !needed.has(id) && !needed.has(merged_into ?? ""))
          const goneIds = new Set(gone.map(({ id }) => id))
          const approvals = yield* store.find("approvals", { where: { event_id: { in: [...goneIds] } } })
          const slots = yield* store.find("slots", { where: { event_id: { in: [...goneIds] } } })
          if (gone.length > 0) {
            yield* journal.step((tx) => {
              for (const { event_id, id } of runs) {
                if (goneIds.has(event_id)) tx.write({ op: "delete", table: "runs", where: { id } })
              }
              tx.write({ op: "delete", table: "deliveries", where: { event_id: { in: [...goneIds] } } })
              tx.write({ op: "delete", table: "votes", where: { approval_id: { in: approvals.map(({ id }) => id) } } })
              tx.write({ op: "delete", table: "approvals", where: { event_id: { in: [...goneIds] } } })
              tx.write({ op: "delete", table: "decisions", where: { event_id: { in: [...goneIds] } } })
              // With a job's event goes all that its history has from before.
              for (const { at, job_id } of slots) {
                tx.write({
                  op: "delete",
                  table: "slots",
                  where: { job_id, at: { lte: at }, state: { in: CLOSED_SLOTS } }
                })
              }
              tx.write({ op: "delete", table: "events", where: { id: { in: [...goneIds] } } })
            })
          }
          removed += gone.length
          if (surplus.length < PAGE) return removed
        }
      })

    const turns = (now: number, isActive: (sessionKey: string) => boolean) =>
      Effect.gen(function* () {
        const { before, maxCount } = limitsOf(retention.turns, now)
        const [newest] = yield* store.find("turns", { orderBy: ["seq", "desc"], limit: 1 })
        const lastSeq = newest?.seq ?? 0
        let after = 0
        let removed = 0
        while (true) {
          const rows = yield* store.find("turns", {
            where: { seq: { gt: after } },
            orderBy: ["seq", "asc"],
            limit: PAGE
          })
          const end = rows.findIndex((row) => row.at >= before && row.seq > lastSeq - maxCount)
          const surplus = end === -1 ? rows : rows.slice(0, end)
          const last = surplus.at(-1)
          if (last === undefined) return removed
          after = last.seq
          removed += yield* journal.step((tx) => {
            // Asked within the step: until then a run of one of them may have been dispatched.
            const gone = surplus.filter(({ session_key }) => !isActive(session_key)).map(({ seq }) => seq)
            if (gone.length > 0) tx.write({ op: "delete", table: "turns", where: { seq: { in: gone } } })
            return gone.length
          })
          if (surplus.length < PAGE) return removed
        }
      })

    const tokens = (now: number) =>
      Effect.gen(function* () {
        const { before } = limitsOf(retention.audit, now)
        if (!Number.isFinite(before)) return 0
        let removed = 0
        for (const where of [{ revoked_at: { lt: before } }, { expires_at: { lt: before } }]) {
          for (let more = true; more; ) {
            const ids = (yield* store.find("tokens", { columns: ["id"], where, limit: PAGE })).map(({ id }) => id)
            if (ids.length > 0) {
              yield* journal.step((tx) => tx.write({ op: "delete", table: "tokens", where: { id: { in: ids } } }))
            }
            removed += ids.length
            more = ids.length === PAGE
          }
        }
        return removed
      })

    return {
      prune: (isActive: (sessionKey: string) => boolean): Effect.Effect<Pruned, StoreError | GatewayError> =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          return {
            events: yield* events(now),
            turns: yield* turns(now, isActive),
            audit: yield* audit.prune(limitsOf(retention.audit, now)),
            tokens: yield* tokens(now)
          }
        })
    }
  })
