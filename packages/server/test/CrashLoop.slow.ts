import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { start, urlOf } from "./ChildServer.ts"
import { ADA, as, delivery, eventually, requestAt, runsIn, tempDir } from "./Support.ts"

describe("N5: a process that crashes on start, again and again", { timeout: 60_000 }, () => {
  it.scopedLive("the fourth comes up with its sources held, says so, keeps what comes, and goes on when released", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const config = { storage, tokens: { ada: ADA }, limits: { maxAttempts: 9 } }
      const first = yield* start(config, { mode: "crash" })
      // The process goes down before, or after, it has answered.
      yield* Effect.exit(requestAt(yield* urlOf(first), "/webhooks/github", delivery("deployment", "d1")))
      expect(yield* first.exit).toMatchObject({ signal: "SIGKILL" })
      for (let i = 0; i < 2; i++) {
        expect(yield* (yield* start(config, { mode: "crash" })).exit).toMatchObject({ signal: "SIGKILL" })
      }
      expect(yield* runsIn(storage)).toMatchObject([{ state: "running", attempt: 3 }])

      const fourth = yield* start(config, { mode: "crash" })
      const url = yield* urlOf(fourth)
      expect(yield* eventually(requestAt(url, "/readyz"), ({ status }) => status === 200)).toMatchObject({
        body: { status: "held" }
      })
      const status = Effect.map(requestAt(url, "/status", as(ADA)), ({ body }) => body)
      expect(yield* status).toMatchObject({
        held: { reason: expect.stringContaining("3 starts within 5 minutes ended in a crash") },
        scheduler: { running: false },
        pending: { waiting: 1, running: 0 }
      })
      expect((yield* requestAt(url, "/webhooks/github", delivery("deployment", "d2"))).status).toBe(202)
      expect(yield* status).toMatchObject({ pending: { waiting: 2, running: 0 } })
      fourth.process.kill("SIGTERM")
      const ended = yield* fourth.exit
      expect(ended).toMatchObject({ code: 0 })
      expect(ended.output).toContain("find out why, then release the gateway")

      // What made it crash is mended; it still waits to be told.
      const fifth = yield* start(config)
      const again = yield* urlOf(fifth)
      yield* eventually(requestAt(again, "/readyz"), ({ body }) => body.status === "held")
      const release = requestAt(again, "/release", { ...as(ADA), method: "POST" })
      expect(yield* release).toMatchObject({ status: 200, body: { released: true, by: "ada" } })
      expect(yield* fifth.told("running")).toMatchObject({ attempt: 4 })
      expect((yield* release).body).toMatchObject({ released: false })
      expect((yield* requestAt(again, "/readyz")).body).toEqual({ status: "ready" })
    })
  )
})
