import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import { Effect, Option } from "effect"
import { load } from "../Configuration.ts"
import * as Flags from "../Flags.ts"

export const start = Command.make(
  "start",
  {
    port: Options.integer("port").pipe(
      Options.withPseudoName("n"),
      Options.withDescription("Listen at this port, whatever the configuration says; 0: any that is free."),
      Options.optional,
      Options.map(Option.getOrUndefined)
    ),
    logFormat: Flags.choice(
      "log-format",
      ["pretty", "json"],
      "How the log is written. Default: as configured, or pretty."
    ),
    ...Flags.configured
  },
  ({ config }) => Effect.flatMap(load(config), () => Effect.never)
).pipe(Command.withDescription("Runs the gateway until it is told to stop: by Ctrl-C, SIGTERM or `postilion stop`."))
