import { describe, expect, it } from "@effect/vitest"
import { Store } from "@postilion/gateway"
import type { Write } from "@postilion/gateway/records/Store"
import { Effect } from "effect"
import { ADA, server } from "./Support.ts"
import { connected, hello, open } from "./Wire.ts"

/** Fifty pages, and more than may wait in a socket. */
const ANSWERS = 10_000

/** What an agent has answered ada in her session `ops` over the months. */
const answered: ReadonlyArray<Write> = Array.from({ length: ANSWERS }, (_, n) => ({
  op: "insert",
  table: "deliveries",
  row: {
    seq: n + 1,
    id: `dlv_${n}`,
    event_id: `evt_${n}`,
    run_id: `run_${n}`,
    agent_id: "agent",
    channel: "websocket",
    target: '["ada","ops"]',
    state: "sent",
    attempt: 1,
    outcome: "completed",
    text: "x".repeat(300),
    created_at: 0,
    due_at: 0,
    reference: null,
    error: null,
    ended_at: 0
  }
}))

describe("a long backlog", () => {
  it.scopedLive("N23, N24: is told in order and whole, and others are answered meanwhile", () =>
    Effect.gen(function* () {
      yield* (yield* Store).commit(answered)
      const ada = yield* connected(ADA)
      const joining = yield* Effect.fork(ada.ask("session.join", { session: "ops", since: 0 }))
      yield* ada.until(({ method }) => method === "MESSAGE")
      const other = yield* open()
      expect((yield* other.ask("connect", hello(ADA))).result).toMatchObject({ principal: "ada" })
      expect(joining.unsafePoll()).toBeNull()
      const { result } = yield* joining
      expect(result).toMatchObject({ cursor: ANSWERS })
      const told = ada.told("MESSAGE").map(({ params }) => params?.cursor)
      expect(told).toEqual(Array.from({ length: ANSWERS }, (_, n) => n + 1))
    }).pipe(Effect.provide(server()))
  )
})
