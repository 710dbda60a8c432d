import { Schema } from "effect"
import { optional, required, withDefault } from "./ConfigFields.ts"
import { type ConfigProblem, noAgent } from "./ConfigProblem.ts"
import type { RawInput } from "./GatewayEvent.ts"
import { EventSource } from "./GatewayEvent.ts"
import { OneOf } from "./OneOf.ts"

/** What kind of conversation a message is of. */
export const ChatContext = OneOf("dm", "group", "channel")
export type ChatContext = typeof ChatContext.Type

/** What rules look at in an input. */
const conditions = {
  source: optional(OneOf(...EventSource.literals), "Where the input came from."),
  channel: optional(
    Schema.NonEmptyString,
    "The channel a message came by: `http`, `websocket`, or a name of `channels`."
  ),
  context: optional(ChatContext, "The kind of conversation a message is of."),
  chat: optional(Schema.NonEmptyString, "The conversation, as its channel calls it."),
  peer: optional(Schema.NonEmptyString, "The sender, as the transport proved it.")
}
const BindingConfig = Schema.Struct({
  agentId: required(Schema.String, "The agent that handles what is as said here."),
  ...conditions
})
export type BindingConfig = typeof BindingConfig.Type

export const RoutingConfig = Schema.Struct({
  dm: optional(Schema.String, "The agent for direct messages. Default: as `default`."),
  group: optional(Schema.String, "The agent for messages in groups. Default: as `default`."),
  channel: optional(Schema.String, "The agent for messages in channels. Default: as `default`."),
  default: optional(Schema.String, "The agent for whatever else names none. Default: the first of `agents`."),
  bindings: withDefault(
    Schema.Array(BindingConfig),
    [],
    "Closer rules, which come before those above. Of those that match, the most specific counts: one with a `peer` before one with a `chat`, then `channel`, `context`, `source`; of two alike, the first."
  )
})
export type RoutingConfig = typeof RoutingConfig.Type

/** An input with no more to it than what rules look at. */
export const RouteQuestion = Schema.Struct(conditions)
export type RouteQuestion = typeof RouteQuestion.Type

/** The input that is asked about: a message, unless it is said to be something else. */
export const inputOf = ({ channel, chat, context, peer, source = "channel" }: RouteQuestion): RawInput => ({
  source,
  payload: null,
  sender: peer,
  metadata: { channel, context, chatId: chat }
})

/** The rule that says which agent an input is for. */
export const RoutedBy = Schema.Struct({
  by: Schema.String.annotations({
    description:
      "`agentId`, where the input names its agent; the key of the configuration, `routing.bindings[0]`, `routing.dm`, …; `agents`, the first there is."
  }),
  conditions: optional(Schema.Struct(conditions), "What the binding asked for as it matched: the file may change.")
})
export type RoutedBy = typeof RoutedBy.Type

/** Which agent an input is for, and why. */
export const Route = Schema.Struct({ agentId: Schema.String, ...RoutedBy.fields })
export type Route = typeof Route.Type

/** What rules look at, in a message or another input. */
export interface RouteSubject {
  readonly source: string
  readonly channel: string | undefined
  readonly context: ChatContext | undefined
  readonly chat: string | undefined
  readonly peer: string | undefined
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined)
const contexts: ReadonlySet<unknown> = new Set(ChatContext.literals)
// Not `Schema.is`, which works out for each event what is wrong with one that has none.
const isContext = (value: unknown): value is ChatContext => contexts.has(value)

export const subjectOf = ({
  metadata,
  sender,
  source
}: Pick<RawInput, "metadata" | "sender" | "source">): RouteSubject => ({
  source,
  channel: textOf(metadata?.channel),
  // What a message does not say is a conversation of two.
  context: isContext(metadata?.context) ? metadata.context : source === "channel" ? "dm" : undefined,
  chat: textOf(metadata?.chatId),
  peer: sender
})

/** By weight: one of these outweighs all that follow. */
const CONDITIONS = ["peer", "chat", "channel", "context", "source"] as const

/** How closely a binding describes what it is for; `undefined` where it is not for this. */
const closeness = (binding: BindingConfig, subject: RouteSubject): number | undefined => {
  let weight = 0
  for (const condition of CONDITIONS) {
    weight *= 2
    if (binding[condition] === undefined) continue
    if (binding[condition] !== subject[condition]) return undefined
    weight += 1
  }
  return weight
}

/** The agent for an input that names none. */
export const routeOf = (routing: RoutingConfig, agents: ReadonlyArray<string>, subject: RouteSubject): Route => {
  let best = -1
  let route: Route | undefined
  for (const [i, binding] of routing.bindings.entries()) {
    const weight = closeness(binding, subject)
    if (weight === undefined || weight <= best) continue
    best = weight
    const { agentId, ...conditions } = binding
    route = { agentId, by: `routing.bindings[${i}]`, conditions }
  }
  if (route !== undefined) return route
  const { context } = subject
  const ofContext = context === undefined ? undefined : routing[context]
  if (ofContext !== undefined) return { agentId: ofContext, by: `routing.${context}` }
  if (routing.default !== undefined) return { agentId: routing.default, by: "routing.default" }
  return { agentId: agents[0] ?? "", by: "agents" }
}

/** The agent for what no message asks for: a job, a program. */
export const defaultAgentOf = ({
  agents,
  routing
}: {
  readonly agents: Readonly<Record<string, unknown>>
  readonly routing: RoutingConfig
}): string => routing.default ?? Object.keys(agents)[0] ?? ""

/** Rules that lead nowhere, that match everything, and that never count since one before them is the same. */
export const routingProblems = (
  { bindings, ...rules }: RoutingConfig,
  agents: ReadonlyArray<string>
): ReadonlyArray<ConfigProblem> => {
  const problems: Array<ConfigProblem> = []
  const check = (path: ConfigProblem["path"], agentId: string | undefined) => {
    if (agentId === undefined || agents.length === 0 || agents.includes(agentId)) return
    problems.push(noAgent(path, agentId, agents))
  }
  for (const [rule, agentId] of Object.entries(rules)) check(["routing", rule], agentId)
  const seen = new Map<string, number>()
  for (const [i, binding] of bindings.entries()) {
    check(["routing", "bindings", i, "agentId"], binding.agentId)
    const conditions = CONDITIONS.map((condition) => binding[condition] ?? null)
    if (conditions.every((condition) => condition === null)) {
      const message = `matches everything; say what it is for (${CONDITIONS.join(", ")}), or use routing.default`
      problems.push({ path: ["routing", "bindings", i], message })
      continue
    }
    const key = JSON.stringify(conditions)
    const before = seen.get(key)
    if (before === undefined) seen.set(key, i)
    else
      problems.push({
        path: ["routing", "bindings", i],
        message: `never counts: it is for the same as bindings[${before}]`
      })
  }
  return problems
}
