import { NodeRuntime } from "@effect/platform-node"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { HttpAddress, Postilion, PostilionConfig } from "@postilion/server"
import { Effect, Schema } from "effect"

// A server in a process of its own. It tells its parent where it listens and which runs begin; each run ends when the
// parent says so. Told to "crash", it does, as soon as a run begins.

const config = Schema.decodeUnknownSync(Schema.parseJson(Schema.encodedSchema(PostilionConfig)))(process.argv[2])
const tell = (message: object) => void process.send?.(message)

const runner = layerScripted((task) =>
  Effect.async((resume) => {
    process.once("message", () =>
      resume(Effect.succeed({ text: "done", usage: { inputTokens: 1, outputTokens: 1 }, model: "scripted" }))
    )
    if (process.argv[3] === "crash") process.kill(process.pid, "SIGKILL")
    tell({ running: task.runId, attempt: task.attempt })
  })
)

Effect.gen(function* () {
  const { url } = yield* HttpAddress
  tell({ url })
  yield* Effect.never
}).pipe(Effect.provide(Postilion.layer(config)), Effect.provide(runner), NodeRuntime.runMain)
