import type { KeyObject } from "node:crypto"
import { Chunk, Context, Effect, Layer, Option, Stream } from "effect"
import type { GatewayError } from "../domain/Errors.ts"
import { canonicalize } from "../domain/Json.ts"
import { nextTurn } from "../internal/NextTurn.ts"
import { ChainWalk, type Checkpoint, chainHash, type Evidence, GENESIS, sign } from "./AuditChain.ts"
import { type AuditEntry, type AuditKind, type AuditRecord, toLine, toRecord } from "./AuditRecord.ts"
import { Journal, type Tx } from "./Journal.ts"
import { Store, type StoreError } from "./Store.ts"
import type { AuditRow } from "./Tables.ts"

export interface AuditFilter {
  /** An `AuditKind`; of another there are none. */
  readonly kind?: string | undefined
  readonly eventId?: string | undefined
  /** Only records at or after this instant. */
  readonly since?: Date | undefined
  /** Only records before this instant. */
  readonly until?: Date | undefined
  /** The cursor: only records after this `seq`, such as the last one of the page before. */
  readonly after?: number | undefined
  /** Default: 1,000. At most 10,000. */
  readonly limit?: number | undefined
}

/**
 * What `verify` found.
 *
 * - Valid: `from` is the first record there is, 1 unless older ones were pruned; `records` how many there are; `head` the
 *   last one's hash; `signedTo` the last one that is covered by a signature, where a public key was given.
 * - Not valid: `seq` is the first record that does not fit, and `records` how many before it do.
 */
export type Verification =
  | {
      readonly valid: true
      readonly from: number
      readonly records: number
      readonly head: string
      readonly signedTo?: number
    }
  | { readonly valid: false; readonly records: number; readonly seq: number; readonly problem: string }

export interface VerifyOptions extends Evidence {
  /** Told after each page, at most 500 records, how many of them have been found to fit. */
  readonly onProgress?: (progress: { readonly records: number; readonly total: number }) => void
}

/** A checkpoint and its signature: kept elsewhere, it shows whether the chain was cut off or rewritten before it. */
export interface SignedCheckpoint extends Checkpoint {
  readonly chain: string
  readonly signature: string
}

export interface AuditLogShape {
  /**
   * Adds a record to the chain within a journal step: it commits with what it records. Returns its `seq`, by which what was
   * written in the same step has its place in the order of all that happened.
   */
  readonly append: (tx: Tx, entry: AuditEntry) => number
  /** Records in order of `seq`. Looks through a great many of them a part at a time, without holding up anything else. */
  readonly query: (filter?: AuditFilter) => Effect.Effect<ReadonlyArray<AuditRecord>, StoreError>
  /** Computes the whole chain again and names the first record that does not fit. The same as `verifyWith()`. */
  readonly verify: Effect.Effect<Verification, StoreError>
  /** `verify`, held against signatures and checkpoints kept elsewhere, and telling how far it is. Nothing is pruned meanwhile. */
  readonly verifyWith: (options?: VerifyOptions) => Effect.Effect<Verification, StoreError>
  /**
   * Removes the records up to the first that is neither older than `before` (Unix milliseconds) nor beyond the newest
   * `maxCount`, a page at a time, each with a checkpoint the rest is verified from. Returns how many.
   */
  readonly prune: (limits: {
    readonly before?: number | undefined
    readonly maxCount?: number | undefined
  }) => Effect.Effect<number, StoreError | GatewayError>
  /** `seq` of the last record; 0: there is none. */
  readonly head: () => number
  /** The last checkpoint this process signed. */
  readonly lastSigned: () => SignedCheckpoint | undefined
  /** Every record as one line of JSON: its canonical form and its hash. Nothing is pruned until the stream ends. */
  readonly export: Stream.Stream<string, StoreError>
}

/** The lossless, hash-chained record of everything the gateway did. */
export class AuditLog extends Context.Tag("@postilion/gateway/AuditLog")<AuditLog, AuditLogShape>() {}

/** Records read at a time. */
const PAGE = 500
/** Records looked through at a time for those of a kind or a time, which no index finds. */
const WINDOW = 5_000
const LARGEST_ANSWER = 10_000
/** Records between two signatures. */
const SIGNED_EVERY = 1_000

export interface AuditLogOptions {
  /** Name of the chain this process writes. Default: `main`. */
  readonly chain?: string
  /** An Ed25519 private key that checkpoints are signed with. Default: none, nothing is signed. */
  readonly signingKey?: KeyObject | undefined
  /** Records between two signed checkpoints, at least 2. Default: 1,000. */
  readonly checkpointEvery?: number | undefined
}

export const make = (options: AuditLogOptions = {}) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const chain = options.chain ?? "main"
    const { checkpointEvery: every = SIGNED_EVERY, signingKey } = options
    const start: Checkpoint = { seq: 0, hash: GENESIS }
    let head = start
    let signed: SignedCheckpoint | undefined
    /** Nobody walks along the chain while its beginning is taken away. */
    const walking = yield* Effect.makeSemaphore(1)

    const last = (kind?: AuditKind) =>
      Effect.map(store.find("audit", { where: { chain, kind }, orderBy: ["seq", "desc"], limit: 1 }), ([row]) => row)
    yield* journal.register(
      Effect.map(last(), (row) => {
        head = row === undefined ? start : { seq: row.seq, hash: row.hash }
      })
    )

    const write = (tx: Tx, { data, eventId, kind }: AuditEntry): void => {
      const seq = head.seq + 1
      const event_id = eventId ?? null
      // Here and in the data of what is frequent, keys stand in the order of the canonical form.
      const body = canonicalize({ at: tx.now, chain, data, eventId: event_id, kind, seq })
      const hash = chainHash(head.hash, body)
      tx.write({
        op: "insert",
        table: "audit",
        row: { chain, seq, at: tx.now, kind, event_id, body, prev_hash: head.hash, hash }
      })
      head = { seq, hash }
    }
    const append: AuditLogShape["append"] = (tx, entry) => {
      write(tx, entry)
      const { seq } = head
      if (signingKey === undefined || seq % every !== 0) return seq
      const checkpoint = { chain, ...head, signature: sign(signingKey, chain, head) }
      const { chain: _, ...data } = checkpoint
      write(tx, { kind: "audit.signed", data })
      tx.onCommit(() => {
        signed = checkpoint
      })
      return seq
    }
    /** Where the chain now begins: after the records that were pruned, as the last pruning recorded. */
    const beginning: Effect.Effect<Checkpoint, StoreError> = Effect.gen(function* () {
      const [first] = yield* store.find("audit", { where: { chain }, orderBy: ["seq", "asc"], limit: 1 })
      if (first === undefined || first.seq === 1) return start
      const row = yield* last("audit.checkpoint")
      // Without one that says so, nothing was pruned: then records are missing, and the walk says which.
      if (row === undefined) return start
      const { hash, prunedTo } = toRecord(row).data
      return prunedTo === first.seq - 1 && typeof hash === "string" ? { seq: prunedTo, hash } : start
    })
    const rowsAfter = (from: number, to = Number.MAX_SAFE_INTEGER) =>
      Stream.paginateChunkEffect(from, (after) =>
        store
          .find("audit", { where: { chain, seq: { gt: after, lte: to } }, orderBy: ["seq", "asc"], limit: PAGE })
          .pipe(
            Effect.zipLeft(nextTurn),
            Effect.map((rows) => {
              const next = rows.length < PAGE ? Option.none() : Option.fromNullable(rows.at(-1)?.seq)
              return [Chunk.unsafeFromArray([...rows]), next] as const
            })
          )
      )

    const verifyWith: AuditLogShape["verifyWith"] = ({ onProgress, ...evidence } = {}) =>
      Effect.gen(function* () {
        const before = yield* beginning
        const walk = new ChainWalk(before, evidence)
        const total = head.seq - before.seq
        const done = () => walk.head.seq - before.seq
        const found = yield* rowsAfter(before.seq, head.seq).pipe(
          Stream.mapChunks((rows) => {
            for (const row of rows) {
              const problem = walk.next(row)
              if (problem !== undefined) return Chunk.of({ seq: row.seq, problem })
            }
            onProgress?.({ records: done(), total })
            return Chunk.empty()
          }),
          Stream.runHead
        )
        const end = walk.end()
        const wrong = Option.getOrElse(found, () =>
          end === undefined ? undefined : { seq: walk.head.seq, problem: end }
        )
        const records = done()
        if (wrong !== undefined) return { valid: false, records, ...wrong } as const
        const { signedTo } = walk
        return {
          valid: true,
          from: before.seq + 1,
          records,
          head: walk.head.hash,
          ...(signedTo === undefined ? {} : { signedTo })
        } as const
      }).pipe(walking.withPermits(1))

    const matching = ({ eventId, kind, since, until }: AuditFilter) => ({
      kind,
      event_id: eventId,
      at:
        since === undefined && until === undefined
          ? undefined
          : { ...(since && { gte: since.getTime() }), ...(until && { lt: until.getTime() }) }
    })
    const query: AuditLogShape["query"] = (filter = {}) =>
      Effect.gen(function* () {
        const where = matching(filter)
        const limit = Math.min(filter.limit ?? 1_000, LARGEST_ANSWER)
        const found: Array<AuditRow> = []
        // An event's few records have an index; the rest is looked for a window at a time, with others let in between.
        const window = filter.eventId === undefined ? WINDOW : Number.MAX_SAFE_INTEGER
        let after = Math.max(filter.after ?? 0, (yield* beginning).seq)
        while (found.length < limit && after < head.seq) {
          const rows = yield* store.find("audit", {
            where: { chain, seq: { gt: after, lte: after + window }, ...where },
            orderBy: ["seq", "asc"],
            limit: limit - found.length
          })
          found.push(...rows)
          after += window
          yield* nextTurn
        }
        return found.map(toRecord)
      })

    /** Removes one page; `false` when there is no more to remove. */
    const prunePage = (before: number, maxCount: number) =>
      Effect.gen(function* () {
        const { seq: from } = yield* beginning
        const rows = yield* store.find("audit", {
          where: { chain, seq: { gt: from } },
          orderBy: ["seq", "asc"],
          limit: PAGE
        })
        // The checkpoint itself is one record more: it alone is no reason for another, which would go on for ever.
        const counted = head.seq - from > maxCount + 1 ? head.seq - maxCount : 0
        const kept = rows.findIndex(({ at, seq }) => at >= before && seq > counted)
        const cut = rows[(kept === -1 ? rows.length : kept) - 1]
        if (cut === undefined) return 0
        yield* journal.step((tx) => {
          tx.write({ op: "delete", table: "audit", where: { chain, seq: { lte: cut.seq } } })
          append(tx, { kind: "audit.checkpoint", data: { prunedTo: cut.seq, hash: cut.hash } })
        })
        return cut.seq - from
      }).pipe(walking.withPermits(1))
    const prune: AuditLogShape["prune"] = ({
      before = Number.NEGATIVE_INFINITY,
      maxCount = Number.POSITIVE_INFINITY
    }) =>
      Effect.gen(function* () {
        let pruned = 0
        while (true) {
          const page = yield* prunePage(before, maxCount)
          pruned += page
          if (page < PAGE) return pruned
        }
      })

    return AuditLog.of({
      append,
      prune,
      query,
      verify: verifyWith(),
      verifyWith,
      head: () => head.seq,
      lastSigned: () => signed,
      export: Stream.unwrapScoped(
        Effect.gen(function* () {
          yield* Effect.acquireRelease(walking.take(1), () => walking.release(1))
          return Stream.map(rowsAfter((yield* beginning).seq), toLine)
        })
      )
    })
  })

export const layer = (options?: AuditLogOptions): Layer.Layer<AuditLog, StoreError, Store | Journal> =>
  Layer.scoped(AuditLog, make(options))
