import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService } from "@postilion/gateway"
import { Deferred, Effect } from "effect"
import { ADA, as, deliver, MALLORY, request, result, say, server, tempDir } from "./Support.ts"

const post = (path: string, token = ADA) => request(path, { ...as(token), method: "POST" })
const switches = Effect.map(request("/status", as(ADA)), ({ body }) => body.switches)

describe("the switch over HTTP", () => {
  it.scoped("N20: stopped, every door refuses with 503, and a restart finds it so", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage })
      yield* Effect.gen(function* () {
        expect(yield* post("/stop", MALLORY)).toMatchObject({
          status: 200,
          body: { agentId: "*", mode: "stopped", by: "mallory", summary: { totalRuns: 0 } }
        })
        const [changed] = yield* (yield* AuditLog).query({ kind: "switch.changed" })
        expect(changed?.data).toEqual({ scope: "*", mode: "stopped", by: "mallory" })
      }).pipe(Effect.provide(life))

      yield* Effect.gen(function* () {
        for (const answer of [yield* deliver("push", "d1"), yield* say({ text: "hi" })]) {
          expect(answer).toMatchObject({ status: 503, body: { reason: "stopped" } })
          expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0)
        }
        expect(yield* switches).toEqual({ "*": "stopped" })
        expect((yield* request("/readyz")).status).toBe(200)
        expect(yield* post("/resume")).toMatchObject({
          status: 200,
          body: { agentId: "*", mode: "running", by: "ada" }
        })
        expect(yield* switches).toEqual({})
        expect(yield* say({ text: "hi" })).toMatchObject({ status: 200 })
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("stopped, and told to keep: what comes waits, and runs on resume", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      yield* post("/agents/agent/stop")
      const { body, status } = yield* deliver("deployment", "d1")
      expect(status).toBe(202)
      expect((yield* gateway.status()).pending).toMatchObject({ waiting: 1, running: 0 })
      yield* post("/agents/agent/resume")
      expect(yield* gateway.outcome(String(body.eventId))).toMatchObject({ run: { state: "completed" } })
    }).pipe(Effect.provide(server({ policies: { whenStopped: "keep" } })))
  )

  it.scoped("terminate interrupts what runs, of the one agent", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const { body } = yield* deliver("deployment", "d1")
        yield* Deferred.await(begun)
        expect((yield* post("/agents/on%20call/terminate")).body).toMatchObject({
          agentId: "on call",
          mode: "terminated"
        })
        expect(yield* gateway.outcome(String(body.eventId))).toMatchObject({ run: { state: "cancelled" } })
        expect(yield* switches).toEqual({ "on call": "terminated" })
      }).pipe(
        Effect.provide(
          server({ agents: { "on call": {}, other: {} } }, () =>
            Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
          )
        )
      )
    })
  )

  it.scoped("an agent there is not is 404, and nothing is switched", () =>
    Effect.gen(function* () {
      for (const id of ["nobody", "__proto__", "constructor", "%zz", "%2A"]) {
        expect(yield* post(`/agents/${id}/pause`), id).toMatchObject({ status: 404 })
      }
      for (const path of ["/agents/agent/destroy", "/agents//pause", "/agents/agent/pause/", "/pauses"]) {
        expect((yield* post(path)).status, path).toBe(404)
      }
      expect(yield* switches).toEqual({})
    }).pipe(Effect.provide(server({}, () => Effect.succeed(result("done")))))
  )
})
