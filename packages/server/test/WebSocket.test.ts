import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { ADA, server } from "./Support.ts"
import { connected, isMethod } from "./Wire.ts"

describe("the WebSocket", () => {
  it.scoped("carries a question to the agent and its answer back", () =>
    Effect.gen(function* () {
      const wire = yield* connected(ADA)
      const sent = yield* wire.ask("session.send", { session: "ops", id: "m1", text: "how is the disk?" })
      expect(sent.result).toMatchObject({ duplicate: false, decision: "execute" })
      const answer = yield* wire.until(isMethod("MESSAGE"))
      expect(answer.params).toMatchObject({
        seq: 1,
        session: "ops",
        owner: "ada",
        role: "assistant",
        text: "done: how is the disk?"
      })
    }).pipe(Effect.provide(server()))
  )
})
