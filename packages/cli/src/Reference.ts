import { root } from "./Cli.ts"
import { EXIT } from "./Failure.ts"
import { type Page, type Parameter, pages, usageOf } from "./Help.ts"

/** Commands that answer the same where no gateway runs. */
export const FROM_RECORDS = [
  "explain",
  "events list",
  "events show",
  "runs list",
  "runs show",
  "approvals list",
  "approvals show",
  "sessions list",
  "sessions show",
  "sessions export",
  "cron list",
  "cron next",
  "agents list",
  "budget",
  "dead-letters list",
  "token list",
  "audit verify",
  "audit list",
  "audit export"
] as const

const INTRODUCTION = `# The command line

Made from the commands of \`@postilion/cli\` by \`node scripts/cli.mjs\`; edit those.

\`postilion\` runs a gateway from one file, and operates it. In a clone of the repository it is \`npx postilion\`, or,
where nothing is installed yet, \`npm run --silent postilion --\`.

It asks a gateway that runs, by its API. Which one, and with which token, is said by \`--url\` and \`--token-file\`, by
\`POSTILION_URL\` and \`POSTILION_TOKEN\`, or by the configuration: \`--config\`, \`POSTILION_CONFIG\`, \`./gateway.yaml\`. For a
certificate that no authority vouches for, \`NODE_EXTRA_CA_CERTS\` names a file with it.

Where none runs, these read its records, which the configuration names, and answer the same:
${FROM_RECORDS.map((command) => `\`${command}\``).join(", ")}.
\`route\` reads the configuration. \`status\` says what the records do, and ends with 75. What changes or follows something needs a gateway that runs, and says to start
it first, with 75. \`audit verify\`, \`audit list\`, \`audit export\` and \`backtest\` read the records in any case where they are here.

Answers go to standard output; hints, progress and errors to standard error. On a terminal they are tables, with colours unless
\`NO_COLOR\` is set. \`--json\` makes an answer one JSON document, or, of what goes on and on, a line of JSON each: names in it stay.
An error says what was wrong, where, and what to do; \`--debug\` adds where in the program it came from. \`--help\` says of every
command what this page does.`

const MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "It was done. A gateway that was told to stop has.",
  failed: "It was not done; or what was looked at is not as it should be.",
  usage: "The command line is not one.",
  temporary: "Not now: no gateway runs or answers, or it is busy. The same may succeed later.",
  config: "The configuration is wrong, or what it names cannot be used.",
  interrupted: "Ctrl-C ended it, also `tail`."
}

const listed = (head: string, parameters: ReadonlyArray<Parameter>): ReadonlyArray<string> =>
  parameters.length === 0
    ? []
    : ["", `${head}:`, "", ...parameters.map(({ about, shown }) => `- \`${shown}\`: ${about}`)]

const COMMON = ["--json", "--url url", "--token-file file", "--config file", "--debug"]

const section = (page: Page, common: ReadonlyArray<Parameter>): ReadonlyArray<string> => {
  const isCommon = ({ about, shown }: Parameter) => common.some((one) => one.shown === shown && one.about === about)
  const own = page.options.filter((option) => !isCommon(option))
  const others = page.options.filter(isCommon).map(({ shown }) => `\`${shown}\``)
  return [
    "",
    `## ${page.words.join(" ")}`,
    "",
    "```text",
    usageOf(page),
    "```",
    ...page.about.flatMap((text) => ["", text]),
    ...listed("Arguments", page.arguments),
    ...listed("Options", own),
    ...(others.length === 0 ? [] : ["", `And ${others.join(", ")}.`])
  ]
}

/** What `docs/cli.md` says. */
export const markdown = (): string => {
  const all = pages(root)
  const commands = all.filter(({ below }) => below.length === 0)
  const options = commands.toReversed().flatMap(({ options }) => options)
  const common = COMMON.flatMap((name) => options.find(({ shown }) => shown === name) ?? [])
  return [
    INTRODUCTION,
    "",
    "## What it ends with",
    "",
    ...Object.entries(EXIT).map(([name, code]) => `- ${code}: ${MEANINGS[name as keyof typeof EXIT]}`),
    "",
    "## What most commands take",
    "",
    ...common.map(({ about, shown }) => `- \`${shown}\`: ${about}`),
    ...commands.flatMap((page) => section(page, common)),
    ""
  ].join("\n")
}
