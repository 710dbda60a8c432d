import { randomBytes } from "node:crypto"
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join, relative } from "node:path"
import { pathToFileURL } from "node:url"
import { Effect } from "effect"
import { type CliError, failed } from "./Failure.ts"

/** What is asked of whoever begins. */
export interface Choices {
  readonly agent: string
  readonly instructions: string
  readonly model: string
  readonly port: number
}

/** What is offered. */
export const CHOICES: Choices = {
  agent: "assistant",
  instructions: "You keep an eye on our repositories and deployments. Answer in two sentences.",
  model: "offline",
  port: 8765
}

/** A text as YAML has it: JSON's strings are YAML's too. */
const value = (text: string): string => (/^[a-z][\w/.-]*$/i.test(text) ? text : JSON.stringify(text))

/** A configuration that works as it is, and says what else there is. */
export const template = (
  { agent, instructions, model, port }: Choices,
  schema: string
): string => `# yaml-language-server: $schema=${schema}
# What a Postilion gateway is configured with. Every key is in docs/configuration.md; \`postilion check\` says whether this is right.

# Where it listens. Only this machine reaches it there; for others set \`host\`, and \`ssl\` with it.
port: ${port}

# Everything it keeps: one SQLite file, and what belongs to it beside it. Paths are read from the folder of this file.
storage: ./postilion.sqlite

# Who may ask it things, by name. The token is in a file that only you can read; the command line finds it there.
tokens:
  operator: file:./secrets/operator.token

# Who may talk to agents.
accessControl:
  allowedSenders: [operator]

agents:
  ${value(agent)}:
    instructions: ${value(instructions)}
    # anthropic/<model>, openai/<model> and ollama/<model> think; offline does not, and says so.
    model: ${value(model)}
    # What this agent may use, besides what all may:
    # budget: { tokensPerDay: 50_000 }

webhooks:
  # Give GitHub http://<your address>/webhooks/github and the secret in the file.
  - path: /github
    adapter: github
    secret: file:./secrets/github.secret

policies:
  # Tokens a day and runs an hour, over all agents. What does not fit is not run.
  dailyTokenBudget: 100_000
  maxActionsPerHour: 30
  # What waits until a person says yes: \`postilion approvals list\`.
  requireApprovalFor: [deploy]

# What it does by itself. A tick that has nothing new to look at costs nothing.
# heartbeat:
#   interval: 30 minutes
#   instruction: Check for pending work.
# crons:
#   - name: standup
#     schedule: 0 9 * * MON-FRI
#     timezone: Europe/Berlin
#     instruction: Summarize what happened since yesterday.
`

const writeSecret = (file: string): boolean => {
  // One that is there is in use somewhere.
  if (existsSync(file)) return false
  writeFileSync(file, `${randomBytes(32).toString("hex")}\n`, { mode: 0o600 })
  return true
}

/** Where an editor finds what may stand in the file: what is installed beside it is named from there, and goes where it goes. */
const schemaFor = (folder: string): string => {
  const file = createRequire(import.meta.url).resolve("@postilion/server/gateway.schema.json")
  const near = relative(folder, file)
  return near.startsWith("..") ? pathToFileURL(file).href : near
}

/** Writes a configuration and the secrets it names, and says which files it wrote. */
export const writeProject = (file: string, choices: Choices): Effect.Effect<ReadonlyArray<string>, CliError> =>
  Effect.try({
    try: () => {
      const folder = dirname(file)
      const secrets = join(folder, "secrets")
      mkdirSync(secrets, { recursive: true, mode: 0o700 })
      chmodSync(secrets, 0o700)
      // They are nobody's business who has the repository.
      writeFileSync(join(secrets, ".gitignore"), "*\n")
      const made = ["operator.token", "github.secret"].map((name) => join(secrets, name)).filter(writeSecret)
      writeFileSync(file, template(choices, schemaFor(folder)))
      return [file, ...made].map((path) => relative(process.cwd(), path))
    },
    catch: (cause) =>
      failed(
        `"${file}" cannot be written: ${cause instanceof Error ? cause.message : cause}`,
        "choose a folder that you may write to"
      )
  })
