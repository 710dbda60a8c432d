import * as crypto from "node:crypto"
import { canonicalize } from "../domain/Json.ts"
import type { AuditRow } from "./Tables.ts"

/** Node 20.12 and later hash a string in one call, at half the cost. */
const sha256: (text: string) => string =
  typeof crypto.hash === "function"
    ? (text) => crypto.hash("sha256", text)
    : (text) => crypto.createHash("sha256").update(text).digest("hex")

/** What the first record is chained to. */
export const GENESIS = "0".repeat(64)

/** The hash of a record: SHA-256, in hex, of the previous hash followed by the record's canonical JSON. */
export const chainHash = (previous: string, body: string): string => sha256(previous + body)

/** A record of the chain, and its hash: with the hash known, all records up to it are. */
export interface Checkpoint {
  readonly seq: number
  readonly hash: string
}

/** Ed25519, in base64, over the canonical JSON of `{ chain, seq, hash }`. */
export const sign = (key: crypto.KeyObject, chain: string, { hash, seq }: Checkpoint): string =>
  crypto.sign(null, Buffer.from(canonicalize({ chain, seq, hash })), key).toString("base64")

const isSigned = (key: crypto.KeyObject, chain: string, { hash, seq }: Checkpoint, signature: string): boolean =>
  crypto.verify(null, Buffer.from(canonicalize({ chain, seq, hash })), key, Buffer.from(signature, "base64"))

interface Body {
  readonly data?: {
    readonly seq?: number
    readonly hash?: string
    readonly signature?: string
  }
}

/** What is wrong with `row`, given the record before it; `undefined` when nothing is. */
const problemOf = (row: AuditRow, seq: number, previous: string): string | undefined => {
  if (row.seq !== seq) return `expected record ${seq}, found ${row.seq}: records are missing or out of order`
  if (row.prev_hash !== previous) return "it does not follow the record before it"
  if (chainHash(previous, row.body) !== row.hash) return "its hash does not match its content"
  let body: Record<string, unknown>
  try {
    body = JSON.parse(row.body) as Record<string, unknown>
  } catch {
    return "its content is not JSON"
  }
  if (canonicalize(body) !== row.body) return "its content is not canonical JSON"
  const columns = { chain: row.chain, seq: row.seq, at: row.at, kind: row.kind, eventId: row.event_id }
  for (const [name, value] of Object.entries(columns)) {
    if (body[name] !== value) return `its column "${name}" differs from its content`
  }
  return undefined
}

/** What a chain is held against besides itself. */
export interface Evidence {
  /** The public half of the key checkpoints are signed with: a tail that was rewritten, or is not signed, shows. */
  readonly publicKey?: crypto.KeyObject | string | undefined
  /** Most records that may follow the last signature: the writer's `checkpointEvery`, and one. Default: any number. */
  readonly maxUnsigned?: number | undefined
  /** Checkpoints that were kept elsewhere: a tail that was cut off, or replaced, shows. */
  readonly checkpoints?: ReadonlyArray<Checkpoint> | undefined
}

/** The walk over a chain, record by record, from the one after `start`. */
export class ChainWalk {
  /** The last record that fits. */
  head: Checkpoint
  /** The last one a signature is known to cover. */
  signedTo: number | undefined
  private readonly maxUnsigned: number
  private readonly key: crypto.KeyObject | undefined
  private readonly known: ReadonlyMap<number, string>
  private readonly start: Checkpoint

  constructor(start: Checkpoint, evidence: Evidence) {
    this.head = start
    this.start = start
    const { checkpoints = [], maxUnsigned = Number.POSITIVE_INFINITY, publicKey } = evidence
    this.maxUnsigned = maxUnsigned
    this.key = typeof publicKey === "string" ? crypto.createPublicKey(publicKey) : publicKey
    this.known = new Map(checkpoints.map(({ hash, seq }) => [seq, hash]))
  }
  /** What is wrong with the next record; `undefined` when it fits. */
  next(row: AuditRow): string | undefined {
    const problem = problemOf(row, this.head.seq + 1, this.head.hash) ?? this.signatureProblem(row)
    if (problem !== undefined) return problem
    const known = this.known.get(row.seq)
    if (known !== undefined && known !== row.hash) return "a checkpoint kept elsewhere has another hash for it"
    this.head = { seq: row.seq, hash: row.hash }
    return undefined
  }
  /** What is missing after the last record. */
  end(): string | undefined {
    const { hash, seq: from } = this.start
    if ((this.known.get(from) ?? hash) !== hash)
      return `a checkpoint kept elsewhere has another hash for record ${from}`
    const newest = Math.max(...this.known.keys())
    if (this.known.size > 0 && newest < from) {
      return `the chain begins after record ${from}, and checkpoints kept elsewhere end with ${newest}: nothing says that it is the one that was; keep later ones`
    }
    for (const seq of this.known.keys()) {
      if (seq > this.head.seq) return `a checkpoint kept elsewhere names record ${seq}: records were cut off the end`
    }
    if (this.key === undefined) return undefined
    if (this.signedTo === undefined) return "no record has a signature"
    const unsigned = this.head.seq - this.signedTo
    return unsigned > this.maxUnsigned ? `no record after ${this.signedTo} has a signature` : undefined
  }
  private signatureProblem(row: AuditRow): string | undefined {
    if (row.kind !== "audit.signed") return undefined
    const { hash = "", seq = 0, signature = "" } = (JSON.parse(row.body) as Body).data ?? {}
    if (seq !== this.head.seq || hash !== this.head.hash) return "it signs another record than the one before it"
    if (this.key === undefined) return undefined
    if (!isSigned(this.key, row.chain, { seq, hash }, signature)) return "its signature is not by this key"
    this.signedTo = seq
    return undefined
  }
}
