import { NodeRuntime } from "@effect/platform-node"
import { AgentRunError, type RunResult, type RunTask } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { HttpAddress, Postilion, PostilionConfig, Shutdown } from "@postilion/server"
import { Effect, Schema } from "effect"

// A server in a process of its own. It tells its parent where it listens and which runs begin; each run ends when the
// parent says so. Told to "crash", it does, as soon as a run begins. Told to "spend", runs end by themselves: with more than
// was reserved, with less, or in a failure; and every seventh, in its first attempt, in the end of the process.

const config = Schema.decodeUnknownSync(Schema.parseJson(Schema.encodedSchema(PostilionConfig)))(process.argv[2])
const tell = (message: object) => void process.send?.(message)

const spend = ({ attempt, event }: RunTask): Effect.Effect<RunResult, AgentRunError> => {
  const { n } = Schema.decodeUnknownSync(Schema.Struct({ n: Schema.Number }))(event.payload)
  if (n % 7 === 6 && attempt === 1) process.kill(process.pid, "SIGKILL")
  if (n % 3 === 0) return Effect.fail(new AgentRunError({ message: "no", retryable: false }))
  const usage = { inputTokens: n % 3 === 1 ? 2_000 : 10, outputTokens: 10 }
  return Effect.succeed({ text: "done", usage, model: "scripted" })
}

const runner = layerScripted((task) => {
  if (process.argv[3] === "spend") return spend(task)
  return Effect.async((resume) => {
    process.once("message", () =>
      resume(Effect.succeed({ text: "done", usage: { inputTokens: 1, outputTokens: 1 }, model: "scripted" }))
    )
    if (process.argv[3] === "crash") process.kill(process.pid, "SIGKILL")
    tell({ running: task.runId, attempt: task.attempt })
  })
})

Effect.gen(function* () {
  const { url } = yield* HttpAddress
  tell({ url })
  yield* (yield* Shutdown).requested
}).pipe(Effect.provide(Postilion.layer(config)), Effect.provide(runner), NodeRuntime.runMain)
