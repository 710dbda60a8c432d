import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { typeOf } from "../records/EventCodec.ts"

const textOf = (payload: unknown): string | undefined => {
  if (typeof payload === "string") return payload
  if (typeof payload !== "object" || payload === null) return undefined
  const { instruction, text } = payload as { readonly instruction?: unknown; readonly text?: unknown }
  return typeof instruction === "string" ? instruction : typeof text === "string" ? text : undefined
}

/** The task of an event that no policy gave one: the instruction or text it carries, or what kind of event it is. */
export const describeTask = (event: GatewayEvent): string =>
  textOf(event.payload) ?? `Handle this ${event.source} event${titleOf(event)}.`

const titleOf = (event: GatewayEvent): string => {
  const type = typeOf(event)
  return type === undefined ? "" : ` (${type})`
}

const LINE = 200

/** One line that tells this event from others of its kind. */
export const summaryLine = (event: GatewayEvent): string => {
  const { summary } = event.metadata
  const text = typeof summary === "string" ? summary : (textOf(event.payload) ?? JSON.stringify(event.payload))
  const line = `${typeOf(event) ?? event.source}: ${text.replaceAll(/\s+/g, " ")}`
  return line.length > LINE ? `${line.slice(0, LINE - 1)}…` : line
}

const LISTED = 50

/** The task of a merged run: how many events, and a line for each of the first fifty. */
export const describeMerged = (mergeKey: string, lines: ReadonlyArray<string>): string =>
  [
    `Handle these ${lines.length} events together (${mergeKey}):`,
    ...lines.slice(0, LISTED).map((line, i) => `${i + 1}. ${line}`),
    ...(lines.length > LISTED ? [`… and ${lines.length - LISTED} more`] : [])
  ].join("\n")
