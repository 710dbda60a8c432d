import { describe, expect, it } from "@effect/vitest"
import { Client } from "@postilion/client"
import { AuditLog, GatewayService } from "@postilion/gateway"
import { HttpAddress } from "@postilion/server"
import { Effect, Fiber } from "effect"
import { ADA, as, eventually, request, server } from "./Support.ts"
import { connected } from "./Wire.ts"

const BOB = "token-of-bob"
const OLGA = "token-of-olga"
const people = {
  tokens: {
    ada: { token: ADA, scopes: ["client"] },
    bob: { token: BOB, scopes: ["client"] },
    olga: { token: OLGA, scopes: ["operator"] }
  },
  accessControl: { allowedSenders: ["*"] }
} as const

const client = (token: string) =>
  Effect.flatMap(HttpAddress, ({ url }) => Client.make(url, { token, minReconnectDelayMs: 5 }))
const running = (count: number) =>
  Effect.flatMap(GatewayService, (gateway) => eventually(gateway.status(), ({ pending }) => pending.running === count))

describe("run.abort", { timeout: 60_000 }, () => {
  it.scopedLive("ends the run that a message of one's own has caused; who asked is told that there is no answer", () =>
    Effect.gen(function* () {
      const ada = yield* client(ADA)
      const answer = yield* Effect.fork(ada.ask("ops", "one", { id: "m1" }))
      yield* running(1)
      const { eventId } = yield* ada.send("ops", "one", { id: "m1" })
      const aborted = yield* ada.request("run.abort", { id: eventId })
      expect(aborted.eventId).toBe(eventId)
      expect(yield* Fiber.join(answer)).toMatchObject({ outcome: "failed", eventId })
      // Asked again, as after a lost connection, it is the same.
      expect(yield* ada.request("run.abort", { id: aborted.runId })).toEqual(aborted)
      yield* running(0)
      const records = yield* (yield* AuditLog).query()
      expect(records.filter(({ kind }) => kind === "run.ended").map(({ data }) => [data.state, data.by])).toEqual([
        ["cancelled", "ada"]
      ])
    }).pipe(Effect.provide(server(people, () => Effect.never)))
  )

  it.scopedLive("of another's run there is none, but for an operator, at either door", () =>
    Effect.gen(function* () {
      const ada = yield* connected(ADA)
      const bob = yield* connected(BOB)
      const send = (id: string) =>
        Effect.map(ada.ask("session.send", { session: id, id, text: "go" }), ({ result }) => String(result?.eventId))
      const [first, second] = [yield* send("a"), yield* send("b")]
      yield* running(2)
      const refused = yield* bob.ask("run.abort", { id: first })
      expect(refused.error?.data.code).toBe("not-found")
      const post = (token: string) => request(`/runs/${second}/abort`, { ...as(token), method: "POST" })
      expect((yield* post(BOB)).status).toBe(404)
      yield* running(2)
      const olga = yield* connected(OLGA, "operator")
      expect((yield* olga.ask("run.abort", { id: first })).result).toMatchObject({ eventId: first })
      const ended = yield* post(OLGA)
      expect(ended).toMatchObject({ status: 200, body: { run: { state: "cancelled", error: "aborted by olga" } } })
      expect((yield* ada.ask("run.abort", { id: first })).error?.data.code).toBe("conflict")
      expect(yield* post(ADA)).toMatchObject({ status: 409, body: { reason: "conflict" } })
    }).pipe(Effect.provide(server(people, () => Effect.never)))
  )
})
