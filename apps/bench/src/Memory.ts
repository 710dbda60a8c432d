import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Gateway, GatewayService, Policy, PolicyEngine } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { SqliteStorage } from "@postilion/server"
import { Effect, Layer } from "effect"

const LOOKS = [100_000, 1_000_000]
const SENDERS = 1_000

const megabytes = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MB`

/** The heap after 100,000 events and after a million: what grows with what has been, and not with what waits, shows here. */
export const memory = Effect.gen(function* () {
  const folder = mkdtempSync(join(tmpdir(), "postilion-bench-"))
  const lines = yield* Effect.gen(function* () {
    const gateway = yield* GatewayService
    const engine = yield* PolicyEngine
    yield* engine.addPolicy(Policy.make("Recorded", { priority: 90, evaluate: () => Policy.skip("recorded only") }))
    let n = 0
    const submit = Effect.suspend(() => {
      n += 1
      return gateway.submit({
        source: "webhook",
        payload: { number: n, body: "x".repeat(100) },
        metadata: { type: "pull_request.opened" },
        idempotencyKey: `webhook:/github:${n}`
      })
    })
    const lines: Array<string> = []
    for (const look of LOOKS) {
      yield* Effect.forEach(Array.from({ length: SENDERS }), () => Effect.repeatN(submit, (look - n) / SENDERS - 1), {
        concurrency: "unbounded",
        discard: true
      })
      globalThis.gc?.()
      const { heapUsed, rss } = process.memoryUsage()
      lines.push(
        `heap after ${look.toLocaleString("en-US")} events: ${megabytes(heapUsed)} (process: ${megabytes(rss)})`
      )
    }
    return lines
  }).pipe(
    Effect.provide(
      Gateway.layer({ policies: { maxActionsPerHour: "unlimited" } }).pipe(
        Layer.provide(SqliteStorage.layer({ filename: join(folder, "ours.sqlite") })),
        Layer.provide(layerScripted(() => Effect.dieMessage("nothing is executed here")))
      )
    )
  )
  rmSync(folder, { recursive: true })
  return lines.join("\n")
})
