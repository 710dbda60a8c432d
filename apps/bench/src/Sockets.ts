import { fork } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { HttpAddress, Postilion, type PostilionConfigInput } from "@postilion/server"
import { Console, Effect, Layer, type Scope } from "effect"
import { WebSocket, WebSocketServer } from "ws"
import type { Opening } from "./IdleClients.ts"
import { type Row, rate } from "./Report.ts"

const ROUNDS = 3
const ECHOES = 20_000
/** Echoes under way at a time. */
const WINDOW = 64
export const SUBSCRIBERS = 500
export const FANOUTS = 100
const IDLE = 10_000
/** Files that a process has open besides. */
const OTHER_FILES = 200

/** Where sockets are opened: each says `hello`, if there is something to say, and is ready once that is answered. */
export interface Place {
  readonly url: string
  readonly hello: string | undefined
  readonly echo: string
  /** What has everyone told something, when this is sent. */
  readonly toAll: string
}

export const connectFrame = JSON.stringify({
  jsonrpc: "2.0",
  id: 0,
  method: "connect",
  params: { protocol: [1, 1], role: "operator", token: "bench", client: { name: "bench", version: "1" } }
})

/** Where a gateway's sockets are opened. */
export const gateway = (push: PostilionConfigInput["push"] = {}): Effect.Effect<string, never, Scope.Scope> => {
  const webSocket = {
    maxConnections: 100_000,
    maxMessagesPerMinute: Number.MAX_SAFE_INTEGER,
    // The readers share the process with the server: they cannot keep up while it sends.
    maxBufferedBytes: 2 ** 28
  }
  const layer = Postilion.layer({ storage: ":memory:", port: 0, tokens: { bench: "bench" }, webSocket, push }).pipe(
    Layer.provide(layerScripted(() => Effect.dieMessage("nothing is executed here")))
  )
  return Effect.flatMap(Layer.build(Layer.orDie(layer)), (context) =>
    Effect.map(Effect.provide(HttpAddress, context), ({ url }) => `${url.replace("http", "ws")}/ws`)
  )
}

const ours: Effect.Effect<Place, never, Scope.Scope> = Effect.gen(function* () {
  return {
    url: yield* gateway(),
    hello: connectFrame,
    echo: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    toAll: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "broadcast", params: { text: "x".repeat(100) } })
  }
})

/** `ws` with nothing around it: sends back what it gets, or sends it to everyone. */
export const bare: Effect.Effect<Place, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.async<WebSocketServer>((resume) => {
      const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false })
      const told = Buffer.from(
        JSON.stringify({ jsonrpc: "2.0", method: "BROADCAST", params: { text: "x".repeat(170) } })
      )
      server.on("connection", (socket: WebSocket) =>
        socket.on("message", (data: Buffer) => {
          if (data.length < 100) socket.send(data, { binary: false })
          else for (const client of server.clients) client.send(told, { binary: false })
        })
      )
      server.on("listening", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.async<void>((resume) => server.close(() => resume(Effect.void)))
  ),
  (server) => ({
    url: `ws://127.0.0.1:${server.address().port}`,
    hello: undefined,
    echo: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    toAll: "y".repeat(150)
  })
)

export const open = ({ hello, url }: Place): Effect.Effect<WebSocket, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<WebSocket>((resume) => {
      const socket = new WebSocket(url)
      const ready = () => resume(Effect.succeed(socket))
      socket.on("error", (error) => resume(Effect.die(error)))
      socket.once("open", () => {
        if (hello === undefined) ready()
        else {
          socket.once("message", ready)
          socket.send(hello)
        }
      })
    }),
    (socket) =>
      Effect.async<void>((resume) => {
        socket.once("close", () => resume(Effect.void))
        socket.terminate()
      })
  )

const echoes = (place: Place) =>
  Effect.gen(function* () {
    const socket = yield* open(place)
    const [perSecond] = yield* rate(
      ECHOES,
      Effect.async<void>((resume) => {
        let asked = 0
        let answered = 0
        const ask = (): void => {
          if (asked === ECHOES) return
          asked += 1
          socket.send(place.echo)
        }
        socket.on("message", () => {
          answered += 1
          if (answered === ECHOES) resume(Effect.void)
          else ask()
        })
        while (asked < WINDOW) ask()
      })
    )
    return perSecond
  }).pipe(Effect.scoped)

const fanouts = (place: Place) =>
  Effect.gen(function* () {
    const speaker = yield* open(place)
    const hearers = yield* Effect.forEach(Array.from({ length: SUBSCRIBERS }), () => open(place), { concurrency: 50 })
    const total = FANOUTS * SUBSCRIBERS
    const [perSecond] = yield* rate(
      total,
      Effect.async<void>((resume) => {
        let heard = 0
        for (const hearer of hearers) {
          hearer.on("message", () => {
            heard += 1
            if (heard === total) resume(Effect.void)
            // One at a time: what is measured is the telling, not how much fits into the kernel.
            else if (heard % SUBSCRIBERS === 0) speaker.send(place.toAll)
          })
        }
        speaker.send(place.toAll)
      })
    )
    return perSecond
  }).pipe(Effect.scoped)

const settle = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 500)))
const used = Effect.zipRight(
  settle,
  Effect.sync(() => {
    globalThis.gc?.()
    const { external, heapUsed } = process.memoryUsage()
    return heapUsed + external
  })
)

/** As many connections as are wanted, or as this process may have files open. */
const connectionsOf = Effect.gen(function* () {
  let limit = Number.POSITIVE_INFINITY
  try {
    limit = Number(/^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? limit)
  } catch {
    // Only Linux says.
  }
  const count = Math.min(IDLE, limit - OTHER_FILES)
  if (count < IDLE) {
    yield* Console.log(`${count} idle connections, not ${IDLE}: a process may have ${limit} files open (ulimit -n)`)
  }
  return count
})

/** Bytes that the server's end of an idle connection holds; its other end is another process's. */
const idle = (count: number) => (place: Place) =>
  Effect.gen(function* () {
    // What is made once, with the first.
    yield* open(place)
    const before = yield* used
    const clients = yield* Effect.acquireRelease(
      Effect.sync(() => fork(fileURLToPath(new URL("./IdleClients.js", import.meta.url)), { execArgv: [] })),
      (child) => Effect.sync(() => void child.kill())
    )
    yield* Effect.async<void>((resume) => {
      clients.once("exit", () => resume(Effect.dieMessage("the clients' process ended")))
      clients.once("message", () => resume(Effect.void))
      clients.send({ url: place.url, hello: place.hello, count } satisfies Opening)
    })
    return ((yield* used) - before) / count
  }).pipe(Effect.scoped)

const beside = (name: string, unit: string, measure: (place: Place) => Effect.Effect<number>, rounds = ROUNDS) =>
  Effect.gen(function* () {
    const rows: Array<Row> = []
    for (let round = 0; round < rounds; round++) {
      const place = yield* ours
      const raw = yield* bare
      rows.push({ name, unit, ours: yield* measure(place), bare: yield* measure(raw) })
    }
    return rows
  }).pipe(Effect.scoped)

/** The WebSocket beside bare `ws`; the clients that talk are in the same process as the server, those that are idle are not. */
export const sockets = Effect.gen(function* () {
  const connections = yield* connectionsOf
  return [
    ...(yield* beside("WebSocket echo, one client", "messages/s", echoes)),
    ...(yield* beside(`WebSocket fan-out to ${SUBSCRIBERS}`, "frames/s", fanouts)),
    ...(yield* beside(`memory of each of ${connections} idle connections`, "bytes", idle(connections), 1))
  ]
})
