import { Chunk, Clock, Context, Effect, Layer, Option, Stream } from "effect"
import { GatewayError } from "../domain/Errors.ts"
import type { Role, Session, Turn } from "../domain/Session.ts"
import { nextTurn } from "../internal/NextTurn.ts"
import { AuditLog } from "./AuditLog.ts"
import { Journal, type Tx } from "./Journal.ts"
import { Store, type StoreError } from "./Store.ts"
import type { SessionRow, TurnRow } from "./Tables.ts"

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

export interface ListOptions {
  /** Default: 1,000. */
  readonly limit?: number
  /** The cursor: only sessions after this one, the last of the page before. */
  readonly after?: Pick<Session, "key" | "updatedAt">
}

export interface TurnsOptions {
  /** Only turns before this `seq`, the first one's of the page before. */
  readonly before?: number | undefined
  /** Default: 100. */
  readonly limit?: number | undefined
}

/** A session as it is exported: itself, then its turns, oldest first. */
export type ExportedLine = { readonly session: Session } | { readonly turn: Omit<Turn, "seq"> }

export interface ImportedSession extends Session {
  readonly turns: ReadonlyArray<Omit<Turn, "seq">>
}

export interface SessionStoreShape {
  /** Adds turns within a journal step. Costs the same for a session of any length. */
  readonly append: (tx: Tx, key: string, agentId: string, turns: ReadonlyArray<NewTurn>) => void
  /** The recent turns, oldest first, cut to start with a user's. */
  readonly history: (key: string, options?: HistoryOptions) => Effect.Effect<ReadonlyArray<Turn>, StoreError>
  readonly get: (key: string) => Effect.Effect<Session | undefined, StoreError>
  /** Most recently used first; of those used at the same instant, by their keys. */
  readonly list: (options?: ListOptions) => Effect.Effect<ReadonlyArray<Session>, StoreError>
  /** A page of a session's turns, the last ones, oldest first. */
  readonly turns: (key: string, options?: TurnsOptions) => Effect.Effect<ReadonlyArray<Turn>, StoreError>
  /** Every session with all its turns, by key, a page at a time. */
  readonly export: Stream.Stream<ExportedLine, StoreError>
  /**
   * Adds sessions, all of them or none. Fails with `conflict`, naming it, when one is there already and `replace` is not set;
   * else its turns are those that are imported.
   */
  readonly import: (
    sessions: ReadonlyArray<ImportedSession>,
    options?: { readonly replace?: boolean; readonly by?: string }
  ) => Effect.Effect<void, StoreError | GatewayError>
  /** Removes a session and its turns; `false` when there is none of that key. `by` is recorded with it; default: `program`. */
  readonly delete: (key: string, by?: string) => Effect.Effect<boolean, StoreError | GatewayError>
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
/** Rows read at a time. */
const PAGE = 500

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
  const toSession = (row: SessionRow): Session => ({
    key: row.key,
    agentId: row.agent_id,
    updatedAt: new Date(row.updated_at)
  })
  /** Those used at one instant, by key. */
  const usedAt = (at: number, after: string | undefined, limit: number) =>
    store.find("sessions", {
      where: { updated_at: at, key: after === undefined ? undefined : { gt: after } },
      orderBy: ["key", "asc"],
      limit
    })
  const list: SessionStoreShape["list"] = ({ after, limit = 1_000 } = {}) =>
    Effect.gen(function* () {
      const at = after?.updatedAt.getTime()
      const same = at === undefined ? [] : yield* usedAt(at, after?.key, limit)
      const rest = yield* store.find("sessions", {
        where: { updated_at: at === undefined ? undefined : { lt: at } },
        orderBy: ["updated_at", "desc"],
        limit: limit - same.length
      })
      // Where a page ends among several of one instant, those it has are the first by key.
      const last = rest.at(-1)?.updated_at
      const whole = rest.filter(({ updated_at }) => updated_at !== last)
      const cut = last === undefined ? [] : yield* usedAt(last, undefined, rest.length - whole.length)
      const ordered = whole.sort((a, b) => b.updated_at - a.updated_at || (a.key < b.key ? -1 : 1))
      return [...same, ...ordered, ...cut].map(toSession)
    })
  const lines = ({ key }: Session): Stream.Stream<ExportedLine, StoreError> =>
    Stream.paginateChunkEffect(0, (seq) =>
      Effect.map(
        Effect.zipLeft(
          store.find("turns", {
            where: { session_key: key, seq: { gt: seq } },
            orderBy: ["seq", "asc"],
            limit: PAGE
          }),
          nextTurn
        ),
        (rows) => [
          Chunk.unsafeFromArray(
            rows.map((row) => {
              const { seq: _, ...turn } = toTurn(row)
              return { turn }
            })
          ),
          rows.length < PAGE ? Option.none() : Option.fromNullable(rows.at(-1)?.seq)
        ]
      )
    )
  const exported = Stream.paginateChunkEffect<string | undefined, Session, StoreError, never>(undefined, (after) =>
    Effect.map(
      store.find("sessions", {
        where: { key: after === undefined ? undefined : { gt: after } },
        orderBy: ["key", "asc"],
        limit: PAGE
      }),
      (rows) => [
        Chunk.unsafeFromArray(rows.map(toSession)),
        rows.length < PAGE ? Option.none() : Option.fromNullable(rows.at(-1)?.key)
      ]
    )
  ).pipe(Stream.flatMap((session) => Stream.concat(Stream.make({ session }), lines(session))))
  const remove = (tx: Tx, key: string, by: object = {}) => {
    tx.write({ op: "delete", table: "turns", where: { session_key: key } })
    tx.write({ op: "delete", table: "sessions", where: { key } })
    audit.append(tx, { kind: "session.deleted", data: { sessionKey: key, ...by } })
  }
  const get = (key: string) =>
    Effect.map(store.find("sessions", { where: { key } }), ([row]) => (row === undefined ? undefined : toSession(row)))
  const present = (keys: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const found: Array<string> = []
      for (let from = 0; from < keys.length; from += PAGE) {
        const rows = yield* store.find("sessions", { where: { key: { in: keys.slice(from, from + PAGE) } } })
        found.push(...rows.map(({ key }) => key))
      }
      return found
    })
  const insert = (tx: Tx, key: string, at: number, { content, eventId, role, sender }: NewTurn) =>
    tx.write({
      op: "insert",
      table: "turns",
      row: { seq: ++lastSeq, session_key: key, role, content, at, sender: sender ?? null, event_id: eventId ?? null }
    })

  return SessionStore.of({
    append: (tx, key, agentId, turns) => {
      for (const turn of turns) insert(tx, key, tx.now, turn)
      tx.write({ op: "put", table: "sessions", row: { key, agent_id: agentId, updated_at: tx.now } })
    },
    history: (key, options = {}) =>
      Effect.map(
        store.find("turns", { where: { session_key: key }, orderBy: ["seq", "desc"], limit: options.turns ?? 40 }),
        (rows) => alignHistory(rows.map(toTurn).reverse(), options.characters ?? 8_000)
      ),
    get,
    list,
    turns: (key, { before, limit = 100 } = {}) =>
      Effect.map(
        store.find("turns", {
          where: { session_key: key, seq: before === undefined ? undefined : { lt: before } },
          orderBy: ["seq", "desc"],
          limit
        }),
        (rows) => rows.map(toTurn).reverse()
      ),
    export: exported,
    import: (imported, { by = "program", replace = false } = {}) =>
      Effect.gen(function* () {
        const there = yield* present(imported.map(({ key }) => key))
        if (there.length > 0 && !replace) {
          const message = `there is a session "${there[0]}" already; delete it first, or replace what is there`
          return yield* new GatewayError({ reason: "conflict", message })
        }
        yield* journal.step((tx) => {
          for (const { agentId, key, turns, updatedAt } of imported) {
            // Inserts come first in a step: what is removed is what was there before them.
            tx.write({ op: "delete", table: "turns", where: { session_key: key, seq: { lte: lastSeq } } })
            for (const turn of turns) insert(tx, key, turn.at.getTime(), turn)
            tx.write({
              op: "put",
              table: "sessions",
              row: { key, agent_id: agentId, updated_at: updatedAt.getTime() }
            })
            audit.append(tx, { kind: "session.imported", data: { sessionKey: key, turns: turns.length, by } })
          }
        })
      }),
    delete: (key, by = "program") =>
      Effect.flatMap(get(key), (session) =>
        session === undefined
          ? Effect.succeed(false)
          : Effect.as(
              journal.step((tx) => remove(tx, key, { by })),
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
