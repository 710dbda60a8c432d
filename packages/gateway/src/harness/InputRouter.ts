import { Either } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { routeProblem } from "../domain/Delivery.ts"
import { GatewayError } from "../domain/Errors.ts"
import { EventPriority, EventSource, type GatewayEvent, type RawInput } from "../domain/GatewayEvent.ts"
import { findNonJson, isPlainJson } from "../domain/Json.ts"
import { type Route, routeOf, subjectOf } from "../domain/Routing.ts"

/** An input that may become an event: checked, normalised, routed to an agent. */
export interface Routed {
  readonly event: Omit<GatewayEvent, "id"> & { readonly agentId: string }
  readonly payloadText: string
  readonly metadataText: string
  /** JSON: the rule that chose the agent. */
  readonly routeText: string
  readonly dedupeKey: string | undefined
}

const sources: ReadonlySet<string> = new Set(EventSource.literals)
const priorities: ReadonlySet<string> = new Set(EventPriority.literals)
const encoder = new TextEncoder()

const invalid = (message: string) => Either.left(new GatewayError({ reason: "invalid-input", message }))
const oneOf = (schema: { readonly literals: ReadonlyArray<string> }) => schema.literals.join(", ")

const toJson = (name: string, value: unknown): Either.Either<{ value: unknown; text: string }, GatewayError> => {
  try {
    if (isPlainJson(value)) return Either.right({ value, text: JSON.stringify(value) })
    const problem = findNonJson(value)
    if (problem === undefined) {
      // What policies see now is what they would see after a restart.
      const text = JSON.stringify(value ?? null)
      const carried: unknown = JSON.parse(text)
      if (isPlainJson(carried)) return Either.right({ value: carried, text })
    }
    const { kind, path } = problem ?? { kind: "what a `toJSON` returned", path: "$" }
    return invalid(`${name} is not JSON: ${kind} at ${path}; send it as text, or leave it out`)
  } catch (cause) {
    // A getter or a `toJSON` of its own.
    return invalid(`${name} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
}

const HALF_A_PAIR = /\p{Surrogate}/u
const KNOWN_BY = ["idempotencyKey", "sessionKey", "sender", "traceId", "causedBy"] as const
/** The first of the texts events are known by that a database would not give back as it was. */
const illFormed = (input: RawInput): string | undefined => KNOWN_BY.find((name) => HALF_A_PAIR.test(input[name] ?? ""))

/** Which agent an input is for, and why. */
export const agentOf = ({ agents, routing }: Pick<GatewayConfig, "agents" | "routing">, input: RawInput): Route =>
  input.agentId === undefined
    ? routeOf(routing, Object.keys(agents), subjectOf(input))
    : { agentId: input.agentId, by: "agentId" }

/**
 * Makes the router: inputs to events, each with the agent that is to handle it. `channels` are those an answer may be sent
 * over.
 */
export const make = (config: GatewayConfig, channels: ReadonlySet<string>) => {
  const { maxEventBytes } = config.limits

  return (input: RawInput, now: number): Either.Either<Routed, GatewayError> => {
    if (!sources.has(input.source)) {
      return invalid(`source "${input.source}" is unknown; sources: ${oneOf(EventSource)}`)
    }
    const priority = input.priority ?? "normal"
    if (!priorities.has(priority)) {
      return invalid(`priority "${priority}" is unknown; priorities: ${oneOf(EventPriority)}`)
    }
    const { agentId, ...routedBy } = agentOf(config, input)
    if (!Object.hasOwn(config.agents, agentId)) {
      return invalid(`there is no agent "${agentId}"; agents: ${Object.keys(config.agents).join(", ")}`)
    }
    const payload = toJson("payload", input.payload)
    if (Either.isLeft(payload)) return Either.left(payload.left)
    const metadata = toJson("metadata", input.metadata ?? {})
    if (Either.isLeft(metadata)) return Either.left(metadata.left)
    const characters = payload.right.text.length + metadata.right.text.length
    // A character is at most three bytes of UTF-8: most events need not be counted.
    if (characters * 3 > maxEventBytes) {
      const bytes = encoder.encode(payload.right.text).length + encoder.encode(metadata.right.text).length
      if (bytes > maxEventBytes) {
        return invalid(
          `payload and metadata have ${bytes} bytes; at most ${maxEventBytes} are kept (limits.maxEventBytes)`
        )
      }
    }
    const timestamp = input.timestamp ?? new Date(now)
    if (!(timestamp instanceof Date) || Number.isNaN(timestamp.getTime())) return invalid("timestamp is not a date")
    const text = illFormed(input)
    if (text !== undefined) return invalid(`${text} has half a surrogate pair; send well-formed Unicode`)
    const { replyTo } = input
    const unroutable = replyTo === undefined ? undefined : routeProblem(replyTo, channels)
    if (unroutable !== undefined) return invalid(`replyTo: ${unroutable}`)
    const event: { -readonly [K in keyof Routed["event"]]: Routed["event"][K] } = {
      source: input.source,
      timestamp,
      agentId,
      payload: payload.right.value,
      priority,
      metadata: metadata.right.value as Record<string, unknown>
    }
    if (input.traceId !== undefined) event.traceId = input.traceId
    if (input.sender !== undefined) event.sender = input.sender
    if (input.sessionKey !== undefined) event.sessionKey = input.sessionKey
    if (input.causedBy !== undefined) event.causedBy = input.causedBy
    if (replyTo !== undefined) event.replyTo = { channel: replyTo.channel, target: replyTo.target }
    return Either.right({
      event,
      payloadText: payload.right.text,
      metadataText: metadata.right.text,
      routeText: JSON.stringify(routedBy),
      dedupeKey: input.idempotencyKey
    })
  }
}
