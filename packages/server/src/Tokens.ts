import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import { AuditLog, GatewayError, Journal, Store, type StoreError, supervise } from "@postilion/gateway"
import { makeIds } from "@postilion/gateway/domain/Ids"
import type { StoreShape } from "@postilion/gateway/records/Store"
import type { TokenRow } from "@postilion/gateway/records/Tables"
import { Clock, Context, Effect, Layer, Option, Queue, Redacted, Schema, type Scope } from "effect"
import { Denied } from "./Denied.ts"
import type { Principal } from "./Principal.ts"
import * as Scopes from "./Scopes.ts"

/** A token that was made at run time, without the token itself. */
export interface StoredToken {
  readonly id: string
  /** The principal who holds it. */
  readonly name: string
  readonly scopes: ReadonlyArray<Scopes.Scope>
  readonly createdAt: Date
  readonly createdBy: string
  readonly expiresAt: Date | null
  readonly revokedAt: Date | null
  readonly revokedBy: string | null
}

export interface NewToken {
  /** Whose it is; may be the name of another token's holder, which makes them the same principal. */
  readonly name: string
  readonly scopes: ReadonlyArray<Scopes.Scope>
  /** Default: as long as the token of whoever makes it. */
  readonly expiresInSeconds?: number | undefined
}

export interface TokensShape {
  /**
   * Makes a token. It is told here and never again: only its hash is kept. Fails with `Denied` when it would be for more, or
   * for longer, than the token of whoever makes it; with a `GatewayError`, `conflict`, when there are 10,000 that count.
   */
  readonly create: (
    by: Principal,
    wanted: NewToken
  ) => Effect.Effect<{ readonly made: StoredToken; readonly token: Redacted.Redacted<string> }, GatewayError | Denied>
  /** Newest first, at most 1,000; also those that do not count any more. */
  readonly list: Effect.Effect<ReadonlyArray<StoredToken>, GatewayError>
  /** From now on it does not count. One that did not any more stays as it was. `not-found`: there is none. */
  readonly revoke: (id: string, by: string) => Effect.Effect<StoredToken, GatewayError>
  /** Whose token this is. */
  readonly find: (token: string, now: number) => Principal | undefined
  /** How many count. */
  readonly count: (now: number) => number
  /** Calls `listener` with the id of each token that was revoked, or has expired, until the scope closes. */
  readonly onEnd: (listener: (id: string) => void) => Effect.Effect<void, never, Scope.Scope>
}

/** The bearer tokens that are kept in the gateway's records. */
export class Tokens extends Context.Tag("@postilion/server/Tokens")<Tokens, TokensShape>() {}

/** Tokens that count at a time: they are held in memory. */
const MOST = 10_000
const LISTED = 1_000
/** A longer sleep would not notice that the clock was set. */
const LONGEST_SLEEP = 60_000

export const digest = (token: string): Buffer => createHash("sha256").update(token).digest()

/** `pst_`, the id's 26 digits, and 256 random bits: the id finds the row, without comparing what is secret. */
const format = (id: string): string => `pst_${id.slice("tok_".length)}_${randomBytes(32).toString("base64url")}`
const idOf = (token: string): string | undefined => {
  const [, id] = /^pst_([0-9a-z]{26})_[\w-]{43}$/.exec(token) ?? []
  return id === undefined ? undefined : `tok_${id}`
}

const decodeScopes = Schema.decodeSync(Schema.parseJson(Schema.Array(Schema.Literal(...Scopes.SCOPES))))
const dateOf = (at: number | null): Date | null => (at === null ? null : new Date(at))
const shown = (row: TokenRow): StoredToken => ({
  id: row.id,
  name: row.name,
  scopes: decodeScopes(row.scopes),
  createdAt: new Date(row.created_at),
  createdBy: row.created_by,
  expiresAt: dateOf(row.expires_at),
  revokedAt: dateOf(row.revoked_at),
  revokedBy: row.revoked_by
})

interface Live {
  readonly principal: Principal
  readonly hash: Buffer
}
const liveOf = ({ expires_at, hash, id, name, scopes }: TokenRow): Live => ({
  hash: Buffer.from(hash, "hex"),
  principal: {
    name,
    scopes: decodeScopes(scopes),
    tokenId: id,
    ...(expires_at === null ? {} : { expiresAt: expires_at })
  }
})
const counts = ({ principal: { expiresAt } }: Live, now: number): boolean => expiresAt === undefined || now < expiresAt

/** Newest first, at most 1,000; also those that do not count any more. */
export const listed = (store: StoreShape): Effect.Effect<ReadonlyArray<StoredToken>, StoreError> =>
  Effect.map(store.find("tokens", { orderBy: ["created_at", "desc"], limit: LISTED }), (rows) => rows.map(shown))

const storage = (cause: StoreError) =>
  new GatewayError({ reason: "storage", message: `the records could not be read: ${cause.message}`, cause })

/** What is asked for that is more than the maker has; a token that could make more than itself could make anything. */
const beyond = (by: Principal, { name, scopes }: NewToken, expiresAt: number | null): Denied | undefined => {
  const more = scopes.filter((scope) => !Scopes.covers(by.scopes, scope))
  const longer = by.expiresAt !== undefined && (expiresAt === null || expiresAt > by.expiresAt)
  if (more.length === 0 && !longer) return undefined
  const what =
    more.length > 0 ? `is for ${by.scopes.join(", ")}, which is less than ${more.join(", ")}` : "ends before that"
  return new Denied({ reason: "not-allowed", message: `no token for ${name}: the one that asks for it ${what}` })
}

const make = Effect.gen(function* () {
  const store = yield* Store
  const journal = yield* Journal
  const audit = yield* AuditLog
  const nextId = makeIds()
  const live = new Map<string, Live>()
  const listeners = new Set<(id: string) => void>()
  const changed = yield* Queue.sliding<void>(1)
  const end = (id: string): void => {
    for (const listener of listeners) listener(id)
  }

  yield* journal.register(
    Effect.gen(function* () {
      const rows = yield* store.find("tokens", { where: { revoked_at: null } })
      live.clear()
      // Also those that have expired: what goes by them is told before they are dropped.
      for (const row of rows) live.set(row.id, liveOf(row))
      changed.unsafeOffer(undefined)
    })
  )

  const dropExpired = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    let next = now + LONGEST_SLEEP
    for (const [id, token] of live) {
      if (!counts(token, now)) {
        live.delete(id)
        end(id)
      } else if (token.principal.expiresAt !== undefined) next = Math.min(next, token.principal.expiresAt)
    }
    yield* Effect.raceFirst(Queue.take(changed), Effect.sleep(next - now))
  })
  yield* supervise("token expiry", Effect.forever(dropExpired))

  const row = (id: string) =>
    Effect.flatMap(Effect.mapError(store.find("tokens", { where: { id } }), storage), ([found]) =>
      found === undefined
        ? new GatewayError({
            reason: "not-found",
            message: `there is no token "${id}" in the records; those of the configuration end there`
          })
        : Effect.succeed(found)
    )

  return Tokens.of({
    create: (by, wanted) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const { expiresInSeconds, name, scopes } = wanted
        const expiresAt = expiresInSeconds === undefined ? (by.expiresAt ?? null) : now + expiresInSeconds * 1_000
        const refusal = beyond(by, wanted, expiresAt)
        if (refusal !== undefined) return yield* refusal
        const id = nextId("tok", now)
        const token = format(id)
        const made: TokenRow = {
          id,
          name,
          hash: digest(token).toString("hex"),
          scopes: JSON.stringify(scopes),
          created_at: now,
          created_by: by.name,
          expires_at: expiresAt,
          revoked_at: null,
          revoked_by: null
        }
        const kept = yield* journal.step((tx) => {
          if (live.size >= MOST) return false
          tx.write({ op: "insert", table: "tokens", row: made })
          audit.append(tx, { kind: "token.created", data: { id, name, scopes, expiresAt, by: by.name } })
          // Nobody is told of it before it is on disk.
          live.set(id, liveOf(made))
          tx.onCommit(() => changed.unsafeOffer(undefined))
          return true
        })
        if (kept) return { made: shown(made), token: Redacted.make(token) }
        return yield* new GatewayError({
          reason: "conflict",
          message: `there are ${MOST} tokens that count; revoke what nobody uses first`
        })
      }),
    list: Effect.mapError(listed(store), storage),
    revoke: (id, by) =>
      Effect.gen(function* () {
        yield* row(id)
        yield* journal.step((tx) => {
          if (!live.delete(id)) return
          tx.write({ op: "update", table: "tokens", key: { id }, set: { revoked_at: tx.now, revoked_by: by } })
          audit.append(tx, { kind: "token.revoked", data: { id, by } })
          tx.onCommit(() => end(id))
        })
        return shown(yield* row(id))
      }),
    find: (token, now) => {
      const found = Option.fromNullable(idOf(token)).pipe(Option.flatMapNullable((id) => live.get(id)))
      if (Option.isNone(found) || !timingSafeEqual(found.value.hash, digest(token))) return undefined
      return counts(found.value, now) ? found.value.principal : undefined
    },
    count: (now) => {
      let count = 0
      for (const token of live.values()) if (counts(token, now)) count += 1
      return count
    },
    onEnd: (listener) =>
      Effect.acquireRelease(
        Effect.sync(() => void listeners.add(listener)),
        () => Effect.sync(() => void listeners.delete(listener))
      )
  })
})

export const layer: Layer.Layer<Tokens, StoreError, Store | Journal | AuditLog> = Layer.scoped(Tokens, make)
