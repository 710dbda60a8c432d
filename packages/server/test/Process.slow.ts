import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { start, urlOf } from "./ChildServer.ts"
import { delivery, eventually, requestAt, runsIn, tempDir } from "./Support.ts"

describe("a server in its own process", { timeout: 60_000 }, () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.scopedLive(`${signal}: new work is refused, what runs finishes, the exit status is 0`, () =>
      Effect.gen(function* () {
        const storage = join(yield* tempDir, "ops.sqlite")
        const child = yield* start({ storage })
        const url = yield* urlOf(child)
        const answer = yield* requestAt(url, "/webhooks/github", delivery("deployment", "d1"))
        expect(answer.status).toBe(202)
        yield* child.told("running")
        expect((yield* requestAt(url, "/readyz")).status).toBe(200)

        child.process.kill(signal)
        const unready = yield* eventually(requestAt(url, "/readyz"), ({ status }) => status === 503)
        expect(unready.headers.get("retry-after")).toBe("5")
        expect((yield* requestAt(url, "/livez")).status).toBe(200)
        const refused = yield* eventually(
          requestAt(url, "/webhooks/github", delivery("deployment", "d2")),
          ({ status }) => status === 503
        )
        expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0)
        expect(refused.body).toMatchObject({ reason: "draining" })
        expect(
          (yield* requestAt(
            url,
            "/webhooks/github",
            delivery("push", "d3", { headers: { "x-hub-signature-256": "" } })
          )).status
        ).toBe(401)

        yield* child.finishRun
        expect(yield* child.exit).toMatchObject({ code: 0, signal: null })
        expect(yield* runsIn(storage)).toMatchObject([
          { event_id: answer.body.eventId, state: "completed", attempt: 1 }
        ])
      })
    )
  }

  it.scopedLive("past the deadline it ends all the same, and the next start tries the run again", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const first = yield* start({ storage, drainDeadlineMs: 50 })
      yield* requestAt(yield* urlOf(first), "/webhooks/github", delivery("deployment", "d1"))
      const { running } = yield* first.told("running")
      first.process.kill("SIGTERM")
      const ended = yield* first.exit
      expect(ended).toMatchObject({ code: 0, signal: null })
      expect(ended.output).toContain("drainDeadlineMs (50) has passed; the next start tries again what still ran: 1")

      const second = yield* start({ storage })
      expect(yield* second.told("running")).toEqual({ running, attempt: 2 })
      yield* second.finishRun
      second.process.kill("SIGTERM")
      expect(yield* second.exit).toMatchObject({ code: 0 })
      expect(yield* runsIn(storage)).toMatchObject([{ id: running, state: "completed", attempt: 2 }])
    })
  )

  it.scopedLive("a second signal ends it at once", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const child = yield* start({ storage })
      const url = yield* urlOf(child)
      yield* requestAt(url, "/webhooks/github", delivery("deployment", "d1"))
      yield* child.told("running")
      child.process.kill("SIGTERM")
      yield* eventually(requestAt(url, "/readyz"), ({ status }) => status === 503)
      child.process.kill("SIGTERM")
      expect(yield* child.exit).toMatchObject({ signal: "SIGTERM" })
    })
  )

  it.scopedLive("N12: a second process on the same file is refused, naming the first; after kill -9 it is let in", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const first = yield* start({ storage })
      yield* requestAt(yield* urlOf(first), "/webhooks/github", delivery("deployment", "d1"))
      const { running } = yield* first.told("running")
      const second = yield* start({ storage })
      const refused = yield* second.exit
      expect(refused.code).toBe(1)
      expect(refused.output).toContain(`"${storage}" is in use by the process with pid ${first.process.pid}`)

      first.process.kill("SIGKILL")
      yield* first.exit
      const third = yield* start({ storage })
      expect(yield* third.told("running")).toEqual({ running, attempt: 2 })
    })
  )
})
