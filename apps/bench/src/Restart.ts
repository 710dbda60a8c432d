import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Gateway, type GatewayConfigInput, GatewayService } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { SqliteStorage } from "@postilion/server"
import Database from "better-sqlite3"
import { Effect, Layer } from "effect"
import { type Row, rate } from "./Report.ts"

const PENDING = 100_000
const SENDERS = 1_000
const ROUNDS = 3

const runner = layerScripted(() => Effect.never)

/** What the events wait for, the policies that have them wait, and how many merge windows they are spread over. */
const KINDS = [
  { name: "queued", policies: { maxActionsPerHour: 0 } },
  {
    name: "merging, ten to a window",
    policies: { maxActionsPerHour: "unlimited", mergeWindowMs: 86_400_000 },
    windows: PENDING / 10
  },
  { name: "for their turn", policies: { maxActionsPerHour: "unlimited" } }
] as const satisfies ReadonlyArray<{
  readonly name: string
  readonly policies: GatewayConfigInput["policies"]
  readonly windows?: number
}>
type Kind = (typeof KINDS)[number]

const on = (filename: string, { policies }: Kind) =>
  Gateway.layer({
    policies: { dailyTokenBudget: "unlimited", ...policies },
    limits: { maxInbox: 1_000_000, maxWaitingRuns: 1_000_000 }
  }).pipe(Layer.provide(runner), Layer.provide(SqliteStorage.layer({ filename })))

const fill = (filename: string, kind: Kind) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    let n = 0
    const submit = Effect.suspend(() => {
      n += 1
      return gateway.submit({
        source: "webhook",
        payload: { number: n, body: "x".repeat(800) },
        metadata: {
          type: "pull_request.opened",
          ...("windows" in kind ? { mergeKey: String(n % kind.windows) } : {})
        }
      })
    })
    yield* Effect.forEach(Array.from({ length: SENDERS }), () => Effect.repeatN(submit, PENDING / SENDERS - 1), {
      concurrency: "unbounded",
      discard: true
    })
    const { pending } = yield* gateway.status()
    return pending.queued + pending.merging + pending.waiting
  }).pipe(Effect.provide(on(filename, kind)))

/** The same rows, read and parsed, and nothing else. */
const bare = (filename: string): number => {
  const db = new Database(filename, { readonly: true })
  let count = 0
  for (const row of db.prepare("SELECT * FROM events ORDER BY seq").iterate() as IterableIterator<{
    readonly payload: string
    readonly metadata: string
  }>) {
    JSON.parse(row.payload)
    JSON.parse(row.metadata)
    count += 1
  }
  db.close()
  return count
}

/** From opening the file to a gateway that takes events, with 100,000 waiting, beside a bare read of their rows. */
export const restart = Effect.gen(function* () {
  const rows: Array<Row> = []
  for (const kind of KINDS) {
    const folder = mkdtempSync(join(tmpdir(), "postilion-bench-"))
    const file = join(folder, "ours.sqlite")
    const held = yield* fill(file, kind)
    for (let round = 0; round < ROUNDS; round++) {
      const [bareRate] = yield* rate(
        PENDING,
        Effect.sync(() => bare(file))
      )
      const [ourRate] = yield* rate(PENDING, Effect.scoped(Layer.build(on(file, kind))))
      rows.push({
        name: `restart with ${PENDING} events pending (${kind.name}; ${held} held)`,
        unit: "events/s",
        ours: ourRate,
        bare: bareRate
      })
    }
    rmSync(folder, { recursive: true })
  }
  return rows
})
