import { NodeRuntime } from "@effect/platform-node"
import { HttpAddress, Postilion } from "@postilion/server"
import { Effect } from "effect"

// A server in a process of its own, on the file it is given.
Effect.gen(function* () {
  const { url } = yield* HttpAddress
  process.send?.({ url })
  yield* Effect.never
}).pipe(Effect.provide(Postilion.layerFile(process.argv[2] ?? "")), NodeRuntime.runMain)
