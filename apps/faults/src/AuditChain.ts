import { createHash } from "node:crypto"
import type { AuditRow } from "./Rows.ts"

/** What a record of the audit says happened. */
export interface AuditRecord {
  readonly seq: number
  readonly kind: string
  readonly eventId: string | null
  readonly data: Readonly<Record<string, unknown>>
}

const GENESIS = "0".repeat(64)
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")

/** RFC 8785, for the JSON this audit has: object keys by UTF-16 code units, everything else as ECMAScript writes it. */
const canonical = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(",")}}`
}

/** The chain in the file: each record follows the one before, and is what its hash and its columns say. */
export const checkChain = (rows: ReadonlyArray<AuditRow>): ReadonlyArray<string> => {
  let previous = GENESIS
  for (const [index, row] of rows.entries()) {
    const at = `audit: record ${index + 1}`
    if (row.seq !== index + 1) return [`${at} is missing: there is ${row.seq} in its place`]
    if (row.prev_hash !== previous) return [`${at} does not follow the one before it`]
    if (sha256(previous + row.body) !== row.hash) return [`${at} is not what its hash says`]
    const body = JSON.parse(row.body) as AuditRecord & { readonly at: number }
    if (canonical(body) !== row.body) return [`${at} is not canonical`]
    if (body.seq !== row.seq || body.kind !== row.kind || body.at !== row.at || body.eventId !== row.event_id) {
      return [`${at}: its columns differ from its content`]
    }
    previous = row.hash
  }
  return []
}

/** The exported audit, on its own: it verifies, and it is the file's, up to where it was exported. */
export const checkExport = (lines: ReadonlyArray<string>, rows: ReadonlyArray<AuditRow>): ReadonlyArray<string> => {
  let previous = GENESIS
  for (const [index, line] of lines.entries()) {
    const { hash, ...record } = JSON.parse(line) as { readonly hash: string }
    if (sha256(previous + canonical(record)) !== hash) return [`export: line ${index + 1} is not what its hash says`]
    if (rows[index]?.hash !== hash) return [`export: line ${index + 1} is not the file's record`]
    previous = hash
  }
  return lines.length === 0 ? ["export: it is empty"] : []
}

export const recordsOf = (rows: ReadonlyArray<AuditRow>): ReadonlyArray<AuditRecord> =>
  rows.map(({ body }) => JSON.parse(body) as AuditRecord)
