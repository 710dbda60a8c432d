import { type ChildProcess, fork } from "node:child_process"
import { createHmac, timingSafeEqual } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Policy, PolicyEngine } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { HttpAddress, Postilion } from "@postilion/server"
import { Context, Effect, Layer, type Scope } from "effect"
import type { Row } from "./Report.ts"
import type { Task, Took } from "./WebhookSenders.ts"

const ROUNDS = 3
const SENDERS = [1, 32, 256] as const
const SECRET = "It's a Secret to Everybody"
const requestsFor = (senders: number): number => (senders === 1 ? 1_000 : 10_000)

const senders: Effect.Effect<ChildProcess, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => fork(fileURLToPath(new URL("./WebhookSenders.js", import.meta.url)), { execArgv: [] })),
  (child) => Effect.sync(() => void child.kill())
)

interface Measured {
  readonly perSecond: number
  /** Microseconds of processor time that the server took for each; says more than the rate where others use the machine. */
  readonly processor: number
  /** Microseconds that 99 of 100 waited at most. */
  readonly p99: number
}

let task = 0
const send = (child: ChildProcess, port: number, count: number, requests: number) =>
  Effect.async<Measured>((resume) => {
    task += 1
    const before = process.cpuUsage()
    const ended = (code: number | null) => resume(Effect.dieMessage(`the senders ended with ${code}`))
    child.once("exit", ended)
    child.once("message", (took: Took) => {
      child.off("exit", ended)
      const { system, user } = process.cpuUsage(before)
      resume(
        Effect.succeed({
          perSecond: (requests * 1e9) / took.nanos,
          processor: (user + system) / requests,
          p99: took.p99Nanos / 1e3
        })
      )
    })
    child.send({ port, senders: count, requests, prefix: String(task), secret: SECRET } satisfies Task)
  })

/** Accepts, judges and records each request in a file before it answers. */
const ours = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "postilion-bench-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )
  const layer = Postilion.layer({
    storage: join(folder, "ours.sqlite"),
    port: 0,
    policies: { maxActionsPerHour: "unlimited" },
    webhooks: [{ path: "/github", adapter: "github", secret: SECRET, maxPerMinute: Number.MAX_SAFE_INTEGER }]
  }).pipe(Layer.provide(layerScripted(() => Effect.dieMessage("nothing is executed here"))))
  const context = yield* Layer.build(Layer.orDie(layer))
  const recorded = Policy.make("Recorded", { priority: 90, evaluate: () => Policy.skip("recorded only") })
  yield* Context.get(context, PolicyEngine).addPolicy(recorded)
  return Context.get(context, HttpAddress).port
})

/** `node:http` that reads the body, checks the signature, and answers: nothing is parsed, nothing is kept. */
const bare: Effect.Effect<number, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.async<ReturnType<typeof createServer>>((resume) => {
      const answer = JSON.stringify({ eventId: `evt_${"0".repeat(26)}`, status: "accepted", decision: "skip" })
      const server = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          const body = Buffer.concat(chunks)
          const expected = Buffer.from(`sha256=${createHmac("sha256", SECRET).update(body).digest("hex")}`)
          const given = Buffer.from(String(request.headers["x-hub-signature-256"]))
          const valid = given.length === expected.length && timingSafeEqual(given, expected)
          const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(answer) }
          response.writeHead(valid ? 202 : 401, headers).end(answer)
        })
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  ),
  (server) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  }
)

/** Signed webhooks answered 202, beside bare `node:http`; those who send them are a process of their own. */
export const webhooks = Effect.gen(function* () {
  const rows: Array<Row> = []
  const child = yield* senders
  const ourPort = yield* ours
  const barePort = yield* bare
  for (const port of [ourPort, barePort]) yield* send(child, port, 32, 5_000)
  for (const count of SENDERS) {
    const requests = requestsFor(count)
    for (let round = 0; round < ROUNDS; round++) {
      const own = yield* send(child, ourPort, count, requests)
      const raw = yield* send(child, barePort, count, requests)
      const of = `${count} sender${count === 1 ? "" : "s"}`
      const row = (name: string, unit: string, figure: keyof Measured) =>
        rows.push({ name: `${name}, ${of}`, unit, ours: own[figure], bare: raw[figure] })
      row("signed webhook → 202", "requests/s", "perSecond")
      row("  99 of 100 within", "µs", "p99")
      row("  processor time for each", "µs", "processor")
    }
  }
  return rows
}).pipe(Effect.scoped)
