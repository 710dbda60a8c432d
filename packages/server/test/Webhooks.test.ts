import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { GatewayService, Policy, PolicyEngine } from "@postilion/gateway"
import { Effect } from "effect"
import { ADA, as, deliver, delivery, payloadOf, request, runsIn, server, sign, tempDir } from "./Support.ts"

const idOf = (body: Record<string, unknown>): string => String(body.eventId)

const expectProblem = (
  answer: { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> },
  status: number,
  detail: RegExp
) => {
  expect(answer.headers.get("content-type")).toBe("application/problem+json")
  expect(answer.body).toMatchObject({ type: "about:blank", status, title: expect.any(String) })
  expect(answer.body.detail).toMatch(detail)
  expect(answer.status).toBe(status)
}

describe("webhooks over HTTP", () => {
  it.scoped("N18: a signed delivery of GitHub's is answered 202 with its id, and its run is on disk", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const eventId = yield* Effect.gen(function* () {
        const answer = yield* deliver("deployment", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
        expect(answer.status).toBe(202)
        expect(answer.body).toMatchObject({ status: "accepted", decision: "execute" })
        const id = idOf(answer.body)
        expect(answer.headers.get("location")).toBe(`/events/${id}`)
        yield* (yield* GatewayService).outcome(id)
        const record = yield* request(`/events/${id}`, as(ADA))
        expect(record.body).toMatchObject({
          state: "executed",
          event: { source: "webhook", payload: payloadOf("deployment"), metadata: { type: "deployment.created" } },
          run: { state: "completed", text: "done: Handle this webhook event (deployment.created)." }
        })
        return id
      }).pipe(Effect.provide(server({ storage })))
      expect(yield* runsIn(storage)).toMatchObject([{ event_id: eventId, state: "completed", attempt: 1 }])
    })
  )

  it.scoped("X10: a delivery that is sent again starts nothing", () =>
    Effect.gen(function* () {
      const first = yield* deliver("push", "d1")
      const again = yield* deliver("push", "d1")
      expect(again.status).toBe(202)
      expect(again.body).toEqual({ eventId: first.body.eventId, status: "duplicate", decision: null })
      const { stats } = yield* (yield* GatewayService).status()
      expect(stats.webhooksReceived).toBe(1)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("a forged, a missing, and another body's signature are answered 401, and leave nothing behind", () =>
    Effect.gen(function* () {
      for (const signature of [`sha256=${"0".repeat(64)}`, sign("{}"), ""]) {
        const answer = yield* deliver("push", "d1", { headers: { "x-hub-signature-256": signature } })
        expectProblem(answer, 401, /signature does not match/)
      }
      const { stats } = yield* (yield* GatewayService).status()
      expect(stats.webhooksReceived).toBe(0)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("what is not JSON, not an event, not there, not a POST", () =>
    Effect.gen(function* () {
      expectProblem(yield* deliver("push", "d1", { body: "{" }), 400, /must be JSON/)
      expectProblem(yield* deliver("push", "d2", { body: "[]" }), 422, /must be a JSON object/)
      expectProblem(
        yield* deliver("push", "d3", { headers: { "content-type": "text/plain" } }),
        415,
        /application\/json/
      )
      expectProblem(yield* request("/webhooks/gitlab", delivery("push", "d4")), 404, /no webhook at \/gitlab/)
      expectProblem(yield* request("/webhooks/", delivery("push", "d5")), 404, /no webhook at \//)
      const wrong = yield* request("/webhooks/github")
      expectProblem(wrong, 405, /use POST/)
      expect(wrong.headers.get("allow")).toBe("POST")
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X18: paths that are names of an object's own machinery are paths like any other", () =>
    Effect.gen(function* () {
      for (const name of [
        "constructor",
        "__proto__",
        "hasOwnProperty",
        "toString/",
        "%zz",
        "/github",
        "..%2f..%2fetc"
      ]) {
        expectProblem(yield* request(`/webhooks/${name}`, delivery("push", "d1")), 404, /no webhook at/)
      }
      expect((yield* deliver("push", "d1")).status).toBe(202)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("429 with retry-after past the path's limit, for signed requests alone", () =>
    Effect.gen(function* () {
      yield* deliver("push", "d0", { headers: { "x-hub-signature-256": "sha256=00" } })
      expect((yield* deliver("push", "d1")).status).toBe(202)
      const refused = yield* deliver("push", "d2")
      expectProblem(refused, 429, /maxPerMinute/)
      expect(refused.headers.get("retry-after")).toBe("60")
    }).pipe(
      Effect.provide(
        server({
          webhooks: [{ path: "/github", adapter: "github", secret: "It's a Secret to Everybody", maxPerMinute: 1 }]
        })
      )
    )
  )

  it.scoped("503 with retry-after when the inbox is full", () =>
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      yield* engine.addPolicy({ _tag: "Ponders", priority: 1, evaluate: () => Effect.never })
      const kept = yield* deliver("push", "d1")
      expect(kept).toMatchObject({ status: 202, body: { decision: null } })
      const refused = yield* deliver("push", "d2")
      expectProblem(refused, 503, /busy/)
      expect(refused.headers.get("retry-after")).toBe("1")
      expect(refused.body.reason).toBe("overloaded")
    }).pipe(Effect.provide(server({ limits: { maxInbox: 1 } })))
  )

  it.scoped("a policy that throws, and an adapter that does, break nothing else", () =>
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(
        Policy.make("Throws", {
          priority: 1,
          evaluate: () => {
            throw new Error("boom")
          }
        })
      )
      expect((yield* deliver("push", "d1")).body).toMatchObject({ decision: "escalate" })
      const broken = yield* request("/webhooks/broken", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}"
      })
      expectProblem(broken, 500, /its log says why/)
      expect(broken.text).not.toContain("adapter secret")
      expect((yield* request("/readyz")).status).toBe(200)
    }).pipe(
      Effect.provide(
        server(
          {
            webhooks: [
              { path: "/github", adapter: "github", secret: "It's a Secret to Everybody" },
              { path: "/broken", adapter: "broken", unsigned: true }
            ]
          },
          undefined,
          {
            adapters: [
              {
                source: "broken",
                validateSignature: () => Effect.succeed(true),
                transform: () => {
                  throw new Error("adapter secret")
                },
                classify: () => "broken"
              }
            ]
          }
        )
      )
    )
  )
})
