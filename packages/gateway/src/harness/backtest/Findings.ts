import type { Change, ReportFields } from "../../domain/BacktestFields.ts"
import type { PolicyDecision } from "../../domain/PolicyDecision.ts"
import type { Occasion } from "./Subject.ts"

/** Kinds of changes that are told apart. */
const MOST_KINDS = 1_000
const LISTED = 100

export const reasonOf = (decision: PolicyDecision): string | undefined =>
  "reason" in decision ? decision.reason : undefined

/** What was decided otherwise. */
export class Findings {
  decisions = 0
  changed = 0
  reworded = 0
  notCaused = 0
  readonly examples: Array<ReportFields["examples"][number]> = []
  private readonly kinds = new Map<string, { -readonly [K in keyof Change]: Change[K] }>()
  private others = 0
  private readonly most: number

  constructor(most: number) {
    this.most = most
  }
  /** An event was decided otherwise. */
  differs({ action, at, policy, reason, subject }: Occasion, decision: PolicyDecision, by: string): void {
    this.changed += 1
    const now = reasonOf(decision)
    const why = (now ?? reason ?? undefined)?.replaceAll(/\d+(?:[.,:]\d+)*/g, "#")
    const recorded = { action, policy }
    const replayed = { action: decision.action, policy: by }
    const key = JSON.stringify([action, policy, decision.action, by, why])
    const kind = this.kinds.get(key)
    if (kind !== undefined) kind.count += 1
    else if (this.kinds.size < MOST_KINDS) {
      this.kinds.set(key, { recorded, replayed, ...(why === undefined ? {} : { reason: why }), count: 1 })
    } else this.others += 1
    if (this.examples.length >= this.most) return
    this.examples.push({
      eventId: subject.id,
      at: new Date(at),
      recorded: { ...recorded, ...(reason === null ? {} : { reason }) },
      replayed: { ...replayed, ...(now === undefined ? {} : { reason: now }) }
    })
  }
  get changes(): Pick<ReportFields, "changes" | "otherChanges"> {
    const all = [...this.kinds.values()].sort((a, b) => b.count - a.count)
    const rest = all.slice(LISTED).reduce((sum, { count }) => sum + count, this.others)
    return { changes: all.slice(0, LISTED), otherChanges: rest }
  }
}
