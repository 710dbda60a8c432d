import type { AuditRecord } from "./AuditChain.ts"
import type { Rules } from "./Protocol.ts"
import type { EventRow, Rows, RunRow } from "./Rows.ts"
import type { Witness } from "./Witness.ts"

/** What the last, clean life of the server said of its ledger once it had come to rest. */
export interface LedgerSaid {
  readonly used: number
  readonly reserved: number
  /** Unix milliseconds. */
  readonly resetsAt: number
}

export interface Books {
  readonly rules: Rules
  readonly rows: Rows
  readonly witness: Witness
  /** Lines of the exported audit. */
  readonly exported: ReadonlyArray<string>
  readonly ledger: LedgerSaid
}

/** One thing that is looked for: what of it is wrong, a line each. */
export type Check = (books: Books, records: ReadonlyArray<AuditRecord>) => ReadonlyArray<string>

export const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "abandoned", "cancelled", "merged"])

export const group = <A>(
  items: ReadonlyArray<A>,
  by: (item: A) => string | null
): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const item of items) {
    const key = by(item) ?? ""
    const found = groups.get(key)
    if (found === undefined) groups.set(key, [item])
    else found.push(item)
  }
  return groups
}

/** The records of one kind, by the run they are about. */
export const ofRuns = (records: ReadonlyArray<AuditRecord>, kind: string) =>
  group(
    records.filter((record) => record.kind === kind),
    ({ data }) => String(data.runId)
  )

/** The key that what was sent had, wherever its door puts it. */
export const keyOf = ({ payload }: EventRow): string | undefined => {
  const body = JSON.parse(payload) as { readonly key?: unknown; readonly text?: unknown }
  const key = body.key ?? body.text
  return typeof key === "string" ? key : undefined
}

/** Whether a run was ended for a newer message of its session. */
export const isSuperseded = ({ error, state }: RunRow): boolean =>
  state === "cancelled" && /interrupted by a newer message/.test(error ?? "")
