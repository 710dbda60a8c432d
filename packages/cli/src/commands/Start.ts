import * as Command from "@effect/cli/Command"
import { Effect, Logger } from "effect"
import { load } from "../Configuration.ts"
import * as Flags from "../Flags.ts"
import { paint, say } from "../Output.ts"

const LOGS = { pretty: Logger.pretty, json: Logger.json, logfmt: Logger.logFmt }

export const start = Command.make(
  "start",
  {
    port: Flags.whole(
      "port",
      "n",
      0,
      65_535,
      "Listen at this port, whatever the configuration says; 0: any that is free."
    ),
    logFormat: Flags.choice(
      "log-format",
      ["pretty", "json"],
      "How the log is written. Default: as the configuration says, or pretty."
    ),
    ...Flags.configured
  },
  ({ config: given, logFormat, port }) =>
    Effect.gen(function* () {
      const { config, file } = yield* load(given)
      // What it writes is nobody else's business.
      process.umask(0o077)
      const { HttpAddress, Postilion, Shutdown } = yield* Effect.promise(() => import("@postilion/server"))
      const format = logFormat ?? config.observability.logFormat ?? "pretty"
      const server = Postilion.layerFile(file, {
        set: {
          ...(port === undefined ? {} : { port }),
          ...(logFormat === undefined ? {} : { observability: { ...config.observability, logFormat } })
        }
      })
      yield* Effect.gen(function* () {
        const { url } = yield* HttpAddress
        yield* say(`${paint("bold", "Postilion", "err")} at ${url}, as ${file} says; Ctrl-C stops it`)
        yield* (yield* Shutdown).requested
      }).pipe(Effect.provide(server), Effect.provide(LOGS[format]))
    })
).pipe(Command.withDescription("Runs the gateway until it is told to stop: by Ctrl-C, SIGTERM or `postilion stop`."))
