import { existsSync } from "node:fs"
import * as Command from "@effect/cli/Command"
import * as Prompt from "@effect/cli/Prompt"
import { Effect } from "effect"
import { fileOf, load, originOf } from "../Configuration.ts"
import { failed, usage } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { isTerminal, paint, print, printJson, say, table } from "../Output.ts"
import { CHOICES, type Choices, writeProject } from "../Template.ts"

/** Asks what a person wants; the answers that are offered make a gateway that works. */
const ask: Effect.Effect<Choices, unknown, Prompt.Prompt.Environment> = Effect.gen(function* () {
  const agent = yield* Prompt.text({ message: "What is your agent called?", default: CHOICES.agent })
  const instructions = yield* Prompt.text({ message: "What is it for?", default: CHOICES.instructions })
  const model = yield* Prompt.select({
    message: "Which model does it think with?",
    choices: [
      { title: "none yet: an offline one answers, and says so", value: "offline" },
      { title: "Anthropic (ANTHROPIC_API_KEY)", value: "anthropic/claude-sonnet-4-5" },
      { title: "OpenAI (OPENAI_API_KEY)", value: "openai/gpt-5-mini" },
      { title: "one that Ollama serves here", value: "ollama/qwen3:8b" }
    ]
  })
  const port = yield* Prompt.text({
    message: "At which port does it listen?",
    default: String(CHOICES.port),
    validate: (text) =>
      /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535
        ? Effect.succeed(text)
        : Effect.fail("a port is a number from 1 to 65535")
  })
  return { agent, instructions, model, port: Number(port) }
})

export const init = Command.make(
  "init",
  {
    yes: Flags.yes,
    force: Flags.flag("force", "Write over a configuration that is there."),
    config: Flags.optional("config", "file", "Where to write it. Default: ./gateway.yaml."),
    ...Flags.common
  },
  ({ config, force, yes }) =>
    Effect.gen(function* () {
      const file = fileOf(config)
      if (existsSync(file) && !force) {
        return yield* failed(
          `"${file}" is there already, and stays as it is`,
          "--force writes over it; --config names another"
        )
      }
      if (!yes && !(process.stdin.isTTY && isTerminal())) {
        return yield* usage("there is no terminal to ask on", "add --yes to take what is offered")
      }
      const choices = yes ? CHOICES : yield* ask
      const written = yield* writeProject(file, choices)
      yield* say(`wrote ${written.join(", ")}`)
      yield* say(
        [
          "",
          "What now:",
          "  postilion check                          says whether it is right",
          "  postilion start                          runs it",
          "  postilion webhook send /github           sends it an event, in another terminal",
          "  postilion events list                    shows what became of it"
        ].join("\n")
      )
    })
).pipe(
  Command.withDescription(
    "Writes a commented gateway.yaml that works as it is, and secrets beside it that only you can read. Asks, unless --yes is given."
  )
)

export const check = Command.make("check", { json: Flags.json, ...Flags.configured }, ({ config, json }) =>
  Effect.gen(function* () {
    const {
      config: decoded,
      file,
      warnings
    } = yield* load(config).pipe(
      // A program reads them; a person is told by whoever tells of errors.
      Effect.tapErrorTag("GatewayConfigError", ({ problems = [] }) =>
        json ? printJson({ valid: false, file: fileOf(config), problems }) : Effect.void
      )
    )
    if (json) return yield* printJson({ valid: true, file, warnings })
    for (const { column, line, message } of warnings) {
      yield* say(`${paint("yellow", "warning:", "err")} ${file}:${line}:${column}: ${message}`)
    }
    const { agents, crons, webhooks } = decoded
    const many = (count: number, one: string): string => `${count} ${one}${count === 1 ? "" : "s"}`
    yield* print(
      `${file} is right: ${many(Object.keys(agents).length, "agent")}, ${many(webhooks.length, "webhook")}, ${many(crons.length, "cron")}`
    )
  })
).pipe(
  Command.withDescription(
    "Says whether the configuration is right; where it is not, what is wrong, in which line, and what is allowed. Ends with 78 then."
  )
)

export const configShow = Command.make("show", { json: Flags.json, ...Flags.configured }, ({ config, json }) =>
  Effect.gen(function* () {
    const { file, settings } = yield* load(config)
    if (json) return yield* printJson({ file, settings })
    yield* print(file)
    yield* print(
      `\n${table(settings, [
        { head: "key", of: ({ path }) => path },
        { head: "value", of: ({ value }) => value },
        { head: "from", of: originOf, style: ({ origin }) => (origin.from === "default" ? "dim" : undefined) }
      ])}`
    )
  })
).pipe(
  Command.withDescription(
    "Shows the configuration as it is in effect, with its defaults and without its secrets, and where each value comes from."
  )
)
