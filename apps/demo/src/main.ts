import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import { AuditLog, EventBus, GatewayService, PolicyEngine } from "@postilion/gateway"
import { HttpAddress, Postilion } from "@postilion/server"
import { Cause, Console, Data, Effect, Exit, Layer, Logger, LogLevel } from "effect"
import { closingTable, header, makeLive, makePaint } from "./Live.ts"
import { chooseModel, config, makeCredentials, starsAreNoWork } from "./Ops.ts"
import { tour } from "./Tour.ts"

const USAGE = `npm start -- [--once] [--port N] [--storage FILE]
  --once          end after the tour, with status 0 only if everything expected was seen
  --port N        listen on this port (default 8765; 0: any)
  --storage FILE  keep the records in this SQLite file (default: a new one in the temporary folder)`

class DemoError extends Data.TaggedError("DemoError")<{ readonly message: string }> {}

const readArgs = Effect.try({
  try: () => {
    const { values } = parseArgs({
      options: {
        once: { type: "boolean" },
        port: { type: "string" },
        storage: { type: "string" },
        help: { type: "boolean" }
      }
    })
    const port = Number(values.port ?? 8765)
    if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`--port ${values.port} is not a port`)
    return { once: values.once ?? false, port, storage: values.storage, help: values.help ?? false }
  },
  catch: (cause) => new DemoError({ message: `${cause instanceof Error ? cause.message : String(cause)}\n\n${USAGE}` })
})

const paint = makePaint(process.stdout.isTTY && process.env.NO_COLOR === undefined)

/** A file for this start alone, gone when it ends. */
const temporaryFile = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "postilion-demo-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
).pipe(Effect.map((folder) => join(folder, "demo.sqlite")))

const program = Effect.gen(function* () {
  const { help, once, port, storage } = yield* readArgs
  if (help) return yield* Console.log(USAGE)
  const file = storage ?? (yield* temporaryFile)
  const credentials = makeCredentials()
  const model = yield* Effect.promise(() => chooseModel(process.env))

  yield* Effect.gen(function* () {
    const gateway = yield* GatewayService
    const engine = yield* PolicyEngine
    const bus = yield* EventBus
    const audit = yield* AuditLog
    const { url } = yield* HttpAddress
    yield* engine.addPolicy(starsAreNoWork)

    yield* Console.log(`${paint("bold", "Postilion")} at ${url}, records in ${file}`)
    yield* Console.log(`Agents run on ${model.name}.`)
    yield* Console.log(`Your token, for /status, /chat and the rest: ${credentials.token}\n\n${header(paint)}`)
    let events = 0
    let calls = 0
    const live = makeLive(paint)
    yield* bus.listen((event) => {
      if (event._tag === "GatewayEventReceived") events += 1
      if (event._tag === "ProactiveActionInitiated") calls += 1
      const line = live(event)
      if (line !== undefined) process.stdout.write(`${line}\n`)
    })

    const say = (text: string) => Console.log(paint("dim", `· ${text}`))
    const { approvalId, findings } = yield* tour({ credentials, approve: once, say })
    yield* Console.log(`\n${closingTable(paint, events, calls, yield* gateway.status())}`)
    const verified = yield* audit.verify
    yield* Console.log(
      verified.valid
        ? `audit: ${verified.records} records, chain intact\n`
        : paint("red", `audit: broken at record ${verified.seq}: ${verified.problem}\n`)
    )
    const missed = findings.filter(({ ok }) => !ok)
    for (const { expected, seen } of missed) yield* Console.log(paint("red", `expected ${expected}, saw ${seen}`))
    if (once) {
      if (missed.length > 0 || !verified.valid) {
        return yield* new DemoError({ message: `${missed.length} of ${findings.length} outcomes were not as expected` })
      }
      return yield* Console.log(`${findings.length} of ${findings.length} outcomes as expected.`)
    }
    const auth = `-H 'authorization: Bearer ${credentials.token}'`
    yield* Console.log(
      [
        "Still serving; Ctrl-C ends it. Paste into another terminal:",
        "",
        `curl ${auth} -H 'content-type: application/json' -d '{"text":"What happened today?"}' ${url}/chat`,
        `curl -H 'content-type: application/json' -d '{"type":"note","text":"disk at 91 %"}' ${url}/webhooks/notes`,
        `curl ${auth} -X POST ${url}/approvals/${approvalId}/approve`,
        ""
      ].join("\n")
    )
    yield* Effect.never
  }).pipe(
    Effect.provide(Postilion.layer(config({ credentials, port, storage: file })).pipe(Layer.provide(model.layer))),
    Effect.provide(Logger.minimumLogLevel(LogLevel.Warning))
  )
}).pipe(Effect.scoped)

/** One error, in the words of whoever raised it; a stack only for what nobody expected. */
const report = (cause: Cause.Cause<{ readonly message: string }>) =>
  Cause.isInterruptedOnly(cause)
    ? Effect.void
    : Console.error(paint("red", Cause.isDie(cause) ? Cause.pretty(cause) : (Cause.squash(cause) as Error).message))

NodeRuntime.runMain(program.pipe(Effect.tapErrorCause(report)), {
  disableErrorReporting: true,
  teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause) ? 0 : 1)
})
