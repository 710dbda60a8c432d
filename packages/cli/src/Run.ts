import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Terminal from "@effect/platform/Terminal"
import { nearest } from "@postilion/gateway/domain/Nearest"
import { Cause, Console, Effect, Exit } from "effect"
import { root, VERSION } from "./Cli.ts"
import { type CliError, EXIT, failureOf, usage } from "./Failure.ts"
import { nameOf, pageOf, paragraphs, render } from "./Help.ts"
import { paint, print, say } from "./Output.ts"
import { follow } from "./Words.ts"

type Environment = NodeContext.NodeContext
const parse: (argv: ReadonlyArray<string>) => Effect.Effect<void, unknown, Environment> = Command.run(root.command, {
  name: "postilion",
  version: VERSION,
  executable: "postilion"
})

/** The library says what is wrong with a command line by itself, some of it twice: here that is `report`'s. */
const silently = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Console.consoleWith((console) => Effect.withConsole(effect, { ...console, error: () => Effect.void }))

const execute = (argv: ReadonlyArray<string>): Effect.Effect<void, unknown, Environment> => {
  const line = argv.slice(2)
  const options = line.includes("--") ? line.slice(0, line.indexOf("--")) : line
  if (line[0] === "--version") return print(VERSION)
  const { entry, unknown, words } = follow(root, line)
  const help = `see \`${words.join(" ")} --help\``
  if (unknown !== undefined) {
    const meant = nearest(
      unknown,
      entry.below.map(({ command }) => nameOf(command))
    )
    return usage(
      `there is no command \`${[...words, unknown].join(" ")}\``,
      meant === undefined ? help : `did you mean \`${[...words, meant].join(" ")}\`?`
    )
  }
  if (options.includes("--help") || options.includes("-h") || line.length === 0) {
    return print(render(pageOf(words, entry)))
  }
  if (entry.below.length > 0) return usage(`\`${words.join(" ")}\` needs to be told what to do`, help)
  return parse(argv).pipe(
    Effect.mapError((error) =>
      ValidationError.isValidationError(error) ? usage(paragraphs(error.error).join(" "), help) : error
    ),
    Effect.provide(CliConfig.layer({ isCaseSensitive: true, autoCorrectLimit: 0 }))
  )
}

const report = (error: CliError, debug: boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* say(`${paint("red", "error:", "err")} ${error.message}`)
    if (error.next !== undefined) yield* say(`  ${error.next}`)
    if (debug) yield* say(Cause.pretty(Cause.fail(error.cause ?? error)))
  })

/** What nobody expected: the whole of it, since it has to be put right in the program. */
const defect = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  say(`${paint("red", "error:", "err")} this is a defect of Postilion; please report it\n${Cause.pretty(cause)}`)

/** Runs a command line, says what went wrong, and gives what the process ends with. */
export const run = (argv: ReadonlyArray<string>): Effect.Effect<number> =>
  Effect.suspend(() => execute(argv)).pipe(
    silently,
    Effect.provide(NodeContext.layer),
    Effect.exit,
    Effect.flatMap((exit) => {
      if (Exit.isSuccess(exit)) return Effect.succeed<number>(EXIT.ok)
      const failure = Cause.failureOption(exit.cause)
      // Ctrl-C in place of an answer: there is nothing to say of it.
      if (failure._tag === "Some" && Terminal.isQuitException(failure.value)) return Effect.succeed(EXIT.interrupted)
      const error = failure._tag === "Some" ? failureOf(failure.value) : undefined
      if (error === undefined) return Effect.as(defect(exit.cause), EXIT.failed as number)
      return Effect.as(report(error, argv.includes("--debug")), EXIT[error.exit] as number)
    })
  )
