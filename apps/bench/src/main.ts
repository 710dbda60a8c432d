import { cpus } from "node:os"
import { Console, Effect } from "effect"
import { backtest } from "./Backtest.ts"
import { decisions } from "./Decisions.ts"
import { durable } from "./Durable.ts"
import { memory } from "./Memory.ts"
import { push } from "./Push.ts"
import { table } from "./Report.ts"
import { restart } from "./Restart.ts"
import { schedules } from "./Schedules.ts"
import { sockets } from "./Sockets.ts"
import { webhooks } from "./Webhooks.ts"

const benchmarks = {
  decisions: Effect.map(decisions, table),
  durable: Effect.map(durable, table),
  restart: Effect.map(restart, table),
  schedules: Effect.map(schedules, table),
  sockets: Effect.map(sockets, table),
  webhooks: Effect.map(webhooks, table),
  push: Effect.map(push, table),
  memory,
  backtest
}
const wanted = process.argv.slice(2)

const program = Effect.gen(function* () {
  yield* Console.log(
    `Node ${process.version}, ${cpus().length} cores; medians; "bare" ran beside it in the same process\n`
  )
  for (const [name, benchmark] of Object.entries(benchmarks)) {
    if (wanted.length === 0 || wanted.includes(name)) yield* Console.log(`${yield* benchmark}\n`)
  }
})

Effect.runPromise(program).catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
