import { Clock, Context, Effect, Layer } from "effect"
import type { GatewayError } from "../domain/Errors.ts"
import type { Role, Session, Turn } from "../domain/Session.ts"
import { AuditLog } from "./AuditLog.ts"
import { Journal, type Tx } from "./Journal.ts"
import { Store, type StoreError } from "./Store.ts"
import type { TurnRow } from "./Tables.ts"

export interface NewTurn {
  readonly role: Role
  readonly content: string
  readonly sender?: string | undefined
  readonly eventId?: string | undefined
}

export interface HistoryOptions {
  /** Most turns. Default: 40. */
  readonly turns?: number
  /** Most characters, over all turns. Default: 8,000. */
  readonly characters?: number
}

export interface SessionStoreShape {
  /** Adds turns within a journal step. Costs the same for a session of any length. */
  readonly append: (tx: Tx, key: string, agentId: string, turns: ReadonlyArray<NewTurn>) => void
  /** The recent turns, oldest first, cut to start with a user's. */
  readonly history: (key: string, options?: HistoryOptions) => Effect.Effect<ReadonlyArray<Turn>, StoreError>
  readonly get: (key: string) => Effect.Effect<Session | undefined, StoreError>
  /** Most recently used first. Default limit: 1,000. */
  readonly list: (options?: { readonly limit?: number }) => Effect.Effect<ReadonlyArray<Session>, StoreError>
  /** Removes a session and its turns; `false` when there is none of that key. */
  readonly delete: (key: string) => Effect.Effect<boolean, StoreError | GatewayError>
  /** Removes a session's turns and keeps the session. */
  readonly clear: (key: string) => Effect.Effect<void, GatewayError>
  /** Removes the sessions without a turn for `ttlMillis`, but not those `isActive` names. Returns how many. */
  readonly prune: (
    ttlMillis: number,
    isActive?: (key: string) => boolean
  ) => Effect.Effect<number, StoreError | GatewayError>
}

/** Conversations and their turns. */
export class SessionStore extends Context.Tag("@postilion/gateway/SessionStore")<SessionStore, SessionStoreShape>() {}

const PRUNE_PAGE = 100

/** The longest tail of `turns` (oldest first) within `characters` that starts with a user's turn. */
export const alignHistory = (turns: ReadonlyArray<Turn>, characters: number): ReadonlyArray<Turn> => {
  let start = turns.length
  let total = 0
  for (let i = turns.length - 1; i >= 0; i--) {
    const turn = turns[i] as Turn
    total += turn.content.length
    if (total > characters) break
    if (turn.role === "user") start = i
  }
  return turns.slice(start)
}

const toTurn = (row: TurnRow): Turn => ({
  seq: row.seq,
  role: row.role,
  content: row.content,
  at: new Date(row.at),
  ...(row.sender === null ? {} : { sender: row.sender }),
  ...(row.event_id === null ? {} : { eventId: row.event_id })
})

export const make = Effect.gen(function* () {
  const store = yield* Store
  const journal = yield* Journal
  const audit = yield* AuditLog
  let lastSeq = 0

  yield* journal.register(
    Effect.map(store.find("turns", { orderBy: ["seq", "desc"], limit: 1 }), ([last]) => {
      lastSeq = last?.seq ?? 0
    })
  )
  const sessions = (where: { readonly key: string } | undefined, limit: number) =>
    Effect.map(
      store.find("sessions", { ...(where === undefined ? {} : { where }), orderBy: ["updated_at", "desc"], limit }),
      (rows) =>
        rows.map((row): Session => ({ key: row.key, agentId: row.agent_id, updatedAt: new Date(row.updated_at) }))
    )
  const remove = (tx: Tx, key: string) => {
    tx.write({ op: "delete", table: "turns", where: { session_key: key } })
    tx.write({ op: "delete", table: "sessions", where: { key } })
    audit.append(tx, { kind: "session.deleted", data: { sessionKey: key } })
  }
  const get = (key: string) => Effect.map(sessions({ key }, 1), ([session]) => session)

  return SessionStore.of({
    append: (tx, key, agentId, turns) => {
      for (const { content, eventId, role, sender } of turns) {
        tx.write({
          op: "insert",
          table: "turns",
          row: {
            seq: ++lastSeq,
            session_key: key,
            role,
            content,
            at: tx.now,
            sender: sender ?? null,
            event_id: eventId ?? null
          }
        })
      }
      tx.write({ op: "put", table: "sessions", row: { key, agent_id: agentId, updated_at: tx.now } })
    },
    history: (key, options = {}) =>
      Effect.map(
        store.find("turns", { where: { session_key: key }, orderBy: ["seq", "desc"], limit: options.turns ?? 40 }),
        (rows) => alignHistory(rows.map(toTurn).reverse(), options.characters ?? 8_000)
      ),
    get,
    list: (options = {}) => sessions(undefined, options.limit ?? 1_000),
    delete: (key) =>
      Effect.flatMap(get(key), (session) =>
        session === undefined
          ? Effect.succeed(false)
          : Effect.as(
              journal.step((tx) => remove(tx, key)),
              true
            )
      ),
    clear: (key) => journal.step((tx) => tx.write({ op: "delete", table: "turns", where: { session_key: key } })),
    prune: (ttlMillis, isActive = () => false) =>
      Effect.gen(function* () {
        const cutoff = (yield* Clock.currentTimeMillis) - ttlMillis
        let pruned = 0
        let kept = 0
        while (true) {
          // Active ones stay where they are, at the front of the order: look past as many as were kept.
          const rows = yield* store.find("sessions", {
            where: { updated_at: { lt: cutoff } },
            orderBy: ["updated_at", "asc"],
            limit: PRUNE_PAGE + kept
          })
          const page = rows.slice(kept)
          if (page.length === 0) return pruned
          // Asked within the step: until then a run of one of them may have been dispatched.
          const removed = yield* journal.step((tx) => {
            const idle = page.filter(({ key }) => !isActive(key))
            for (const { key } of idle) remove(tx, key)
            return idle.length
          })
          pruned += removed
          kept += page.length - removed
        }
      })
  })
})

export const layer: Layer.Layer<SessionStore, StoreError, Store | Journal | AuditLog> = Layer.scoped(SessionStore, make)
