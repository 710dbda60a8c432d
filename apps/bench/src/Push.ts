import { Effect, type Scope } from "effect"
import type { WebSocket } from "ws"
import { type Row, rate } from "./Report.ts"
import { bare, connectFrame, FANOUTS, gateway, open, SUBSCRIBERS } from "./Sockets.ts"

const ROUNDS = 3

interface Setup {
  readonly speaker: WebSocket
  readonly hearers: ReadonlyArray<WebSocket>
  /** Has every hearer told something. */
  readonly speak: (n: number) => string
}

const ask = (socket: WebSocket, method: string, params: object): Effect.Effect<void> =>
  Effect.async((resume) => {
    socket.once("message", () => resume(Effect.void))
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }))
  })
const many = <A>(one: Effect.Effect<A, never, Scope.Scope>) =>
  Effect.forEach(Array.from({ length: SUBSCRIBERS }), () => one, { concurrency: 50 })

const channel = (guarantee: "at-least-once" | "at-most-once") =>
  Effect.gen(function* () {
    const url = yield* gateway({ channels: { "*": { guarantee } } })
    const place = { url, hello: connectFrame, echo: "", toAll: "" }
    const speaker = yield* open(place)
    const hearers = yield* many(
      Effect.tap(open(place), (socket) => ask(socket, "push.subscribe", { channel: "bench" }))
    )
    const speak = (n: number) =>
      JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "push.publish",
        params: { channel: "bench", id: String(n), data: "x".repeat(100) }
      })
    return { speaker, hearers, speak }
  })
const raw = Effect.gen(function* () {
  const place = yield* bare
  const speaker = yield* open(place)
  return { speaker, hearers: yield* many(open(place)), speak: () => place.toAll }
})

/** Frames heard a second, of messages one after the other. */
const fanout = (setup: Effect.Effect<Setup, never, Scope.Scope>) =>
  Effect.gen(function* () {
    const { hearers, speak, speaker } = yield* setup
    const total = FANOUTS * SUBSCRIBERS
    const [perSecond] = yield* rate(
      total,
      Effect.async<void>((resume) => {
        let heard = 0
        for (const hearer of hearers) {
          hearer.on("message", () => {
            heard += 1
            if (heard === total) resume(Effect.void)
            else if (heard % SUBSCRIBERS === 0) speaker.send(speak(heard))
          })
        }
        speaker.send(speak(0))
      })
    )
    return perSecond
  }).pipe(Effect.scoped)

/** A message told to all that hear a channel, beside bare `ws`. What is kept is committed first, one message at a time. */
export const push = Effect.gen(function* () {
  const rows: Array<Row> = []
  for (const guarantee of ["at-most-once", "at-least-once"] as const) {
    for (let round = 0; round < ROUNDS; round++) {
      const name = `push fan-out to ${SUBSCRIBERS}, ${guarantee}`
      rows.push({ name, unit: "frames/s", ours: yield* fanout(channel(guarantee)), bare: yield* fanout(raw) })
    }
  }
  return rows
})
