import { describe, expect, it } from "@effect/vitest"
import { Explanation, GatewayService } from "@postilion/gateway"
import { HttpAddress } from "@postilion/server"
import { Effect, Schema } from "effect"
import { ADA, request, server } from "./Support.ts"

const explain = (id: string, accept?: string) =>
  Effect.gen(function* () {
    const { url } = yield* HttpAddress
    const headers = { authorization: `Bearer ${ADA}`, ...(accept === undefined ? {} : { accept }) }
    return yield* Effect.promise(async () => {
      const response = await fetch(`${url}/events/${id}/explain`, { headers })
      return { status: response.status, type: response.headers.get("content-type"), text: await response.text() }
    })
  })

describe("GET /events/:id/explain", () => {
  it.scoped("is what the gateway says of it: as JSON, and as text to whoever asks for that", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const { eventId } = yield* gateway.submit({ source: "webhook", payload: {}, metadata: { type: "push" } })
      yield* gateway.outcome(eventId)
      const known = yield* gateway.explain(eventId)
      const asJson = yield* explain(eventId)
      expect(asJson).toMatchObject({ status: 200, type: "application/json" })
      expect(yield* Schema.decode(Schema.parseJson(Explanation))(asJson.text)).toEqual(known)
      expect((yield* explain(eventId, "application/json, text/plain")).type).toBe("application/json")
      const asText = yield* explain(eventId, "text/plain")
      expect(asText).toMatchObject({ status: 200, type: "text/plain; charset=utf-8", text: `${known?.render()}\n` })
      expect(asText.text).toContain("execute by default")
    }).pipe(Effect.provide(server()))
  )

  it.scoped("is 404 of an event there is none of", () =>
    Effect.gen(function* () {
      expect(yield* explain("evt_none")).toMatchObject({ status: 404, type: "application/problem+json" })
      const answer = yield* request("/events/evt_none/explain", { method: "POST" })
      expect(answer.status).toBe(405)
    }).pipe(Effect.provide(server()))
  )
})
