import { oneLine, paint, type Style, when } from "./Output.ts"

/** How a decision is shown. */
export const styleOf = (decision: string | undefined): Style | undefined => {
  switch (decision) {
    case "execute":
      return "green"
    case "merge":
      return "cyan"
    case "queue":
    case "escalate":
      return "yellow"
    default:
      return "dim"
  }
}

/** Something that happened in the gateway, as it is told over the socket. */
export interface Happening {
  readonly _tag: string
  readonly at: number
  readonly [member: string]: unknown
}

/** Members that every line has a place for, or that say nothing to a person. */
const PLACED = new Set(["_tag", "at", "eventId", "agentId", "passed"])
const TAG_WIDTH = 26

/** One line of what happened: when, what, to which event, and what else there is to say. */
export const happening = (event: Happening): string => {
  const rest = Object.entries(event)
    .filter(([name, value]) => !PLACED.has(name) && value !== undefined && value !== null && typeof value !== "object")
    .map(([name, value]) => `${name}=${oneLine(String(value), 80)}`)
  const style = event._tag === "PolicyDecisionMade" ? styleOf(String(event.decision)) : undefined
  const tag = event._tag.padEnd(TAG_WIDTH)
  return [
    paint("dim", when(event.at) ?? ""),
    style === undefined ? tag : paint(style, tag),
    String(event.eventId ?? ""),
    rest.join(" ")
  ]
    .filter((text) => text !== "")
    .join("  ")
}
