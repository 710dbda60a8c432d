import { Effect, ParseResult, Redacted, Schema } from "effect"
import { type CronConfig, GatewayConfig, type HeartbeatConfig } from "./Config.ts"
import { type ConfigProblem, noAgent, problemError } from "./ConfigProblem.ts"
import type { GatewayConfigError } from "./Errors.ts"
import { routingProblems } from "./Routing.ts"

/** Heartbeats as a list, whichever way they were written. */
export const heartbeatsOf = ({ heartbeat }: Pick<GatewayConfig, "heartbeat">): ReadonlyArray<HeartbeatConfig> =>
  heartbeat === undefined ? [] : "intervalMs" in heartbeat ? [heartbeat] : heartbeat

/** Where each of `heartbeatsOf` is. */
export const heartbeatPath = ({ heartbeat }: Pick<GatewayConfig, "heartbeat">, position: number) =>
  Array.isArray(heartbeat) ? ["heartbeat", position] : ["heartbeat"]

/** What the cron at this position is called: its job is known by it. */
export const cronNameOf = ({ name }: Pick<CronConfig, "name">, position: number): string =>
  name ?? `cron-${position + 1}`

/** What is wrong with a configuration that each of its values alone does not show. */
export const problemsOf = (config: GatewayConfig): ReadonlyArray<ConfigProblem> => {
  const problems: Array<ConfigProblem> = []
  const add = (path: ConfigProblem["path"], message: string) => void problems.push({ path, message })
  const agents = Object.keys(config.agents)
  if (agents.length === 0) add(["agents"], "at least one agent is needed")
  const checkAgent = (path: ConfigProblem["path"], agentId: string | undefined) => {
    if (agentId === undefined || agents.length === 0 || Object.hasOwn(config.agents, agentId)) return
    problems.push(noAgent([...path, "agentId"], agentId, agents))
  }
  for (const [i, { agentId }] of heartbeatsOf(config).entries()) checkAgent(heartbeatPath(config, i), agentId)
  const names = new Set<string>()
  for (const [i, cron] of config.crons.entries()) {
    checkAgent(["crons", i], cron.agentId)
    const name = cronNameOf(cron, i)
    if (names.has(name)) add(["crons", i, "name"], `"${name}" is already taken by another cron`)
    names.add(name)
  }
  const paths = new Set<string>()
  for (const [i, webhook] of config.webhooks.entries()) {
    checkAgent(["webhooks", i], webhook.agentId)
    if (paths.has(webhook.path)) add(["webhooks", i, "path"], `"${webhook.path}" is already taken by another webhook`)
    paths.add(webhook.path)
    const secret = webhook.secret === undefined ? "" : Redacted.value(webhook.secret)
    if (secret === "" && !webhook.unsigned) {
      add(["webhooks", i, "secret"], "missing; set the secret the sender signs with, or write `unsigned: true`")
    }
  }
  return [...problems, ...routingProblems(config.routing, agents)]
}

/** Turns what a schema has to say of a value into the one error a user reads. */
export const configError = (error: ParseResult.ParseError): GatewayConfigError => {
  // A union reports every member; the deepest path is the one the user meant.
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  const issue = issues.reduce((best, next) => (next.path.length > best.path.length ? next : best))
  // What was given instead may hold secrets: of lists and structures it is not said, and the cause, which says it, is left out.
  const message = issue.message.replace(/, actual [[{][\s\S]*$/, "")
  return problemError({ path: issue.path, message })
}

/** Checks a configuration and fills in its defaults. */
export const decodeConfig = (input: unknown): Effect.Effect<GatewayConfig, GatewayConfigError> =>
  Schema.decodeUnknown(GatewayConfig, { onExcessProperty: "error" })(input).pipe(
    Effect.mapError(configError),
    Effect.tap((config) => {
      const [first] = problemsOf(config)
      return first === undefined ? Effect.void : Effect.fail(problemError(first))
    })
  )
