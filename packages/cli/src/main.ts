import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Exit } from "effect"
import { EXIT } from "./Failure.ts"
import { run } from "./Run.ts"

// Whoever reads has what it wanted: `postilion events list | head`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.ok)
  throw error
})

NodeRuntime.runMain(run(process.argv), {
  disableErrorReporting: true,
  // Logs are for `start`, which says how.
  disablePrettyLogger: true,
  teardown: (exit, onExit) => {
    // A server is ended by a signal, and that is as it should be.
    const signalled = process.argv[2] === "start" ? EXIT.ok : EXIT.interrupted
    onExit(Exit.match(exit, { onSuccess: Number, onFailure: () => signalled }))
  }
})
