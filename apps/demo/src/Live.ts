import type { BusEvent, GatewayStatus } from "@postilion/gateway"

const CODES = { dim: 2, red: 31, green: 32, yellow: 33, cyan: 36, bold: 1 } as const
type Style = keyof typeof CODES

/** Colours text, on a terminal only. */
export type Paint = (style: Style, text: string) => string
export const makePaint =
  (terminal: boolean): Paint =>
  (style, text) =>
    terminal ? `\x1b[${CODES[style]}m${text}\x1b[0m` : text

const DECISION: Record<string, Style> = {
  execute: "green",
  merge: "cyan",
  queue: "yellow",
  skip: "dim",
  escalate: "yellow",
  duplicate: "dim",
  failed: "red"
}

interface Line {
  readonly at: number
  readonly source: string
  readonly type: string
  readonly decision: string
  readonly policy: string
  readonly tokens: string
  readonly why: string
}

const WIDTHS = { source: 12, type: 23, decision: 9, policy: 18, tokens: 6 }
const fit = (text: string, width: number): string =>
  text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width)
const oneLine = (text: string): string => {
  const line = text.replaceAll(/\s+/g, " ")
  return line.length > 100 ? `${line.slice(0, 99)}…` : line
}

const render = (paint: Paint, line: Line): string =>
  [
    paint("dim", new Date(line.at).toTimeString().slice(0, 8)),
    fit(line.source, WIDTHS.source),
    fit(line.type, WIDTHS.type),
    paint(DECISION[line.decision] ?? "bold", fit(line.decision, WIDTHS.decision)),
    fit(line.policy, WIDTHS.policy),
    line.tokens.padStart(WIDTHS.tokens),
    ` ${oneLine(line.why)}`
  ].join(" ")

export const header = (paint: Paint): string =>
  paint(
    "bold",
    [
      "time    ",
      fit("source", WIDTHS.source),
      fit("event", WIDTHS.type),
      fit("decision", WIDTHS.decision),
      fit("policy", WIDTHS.policy),
      "tokens".padStart(WIDTHS.tokens),
      " why"
    ].join(" ")
  )

/**
 * Makes of what the bus tells one line an event: as soon as it is decided, and for what reaches the agent, when the agent has
 * answered.
 */
export const makeLive = (paint: Paint): ((event: BusEvent) => string | undefined) => {
  /** Executed events whose run has not ended: few, since runs are. */
  const executed = new Map<string, { readonly type: string; readonly policy: string }>()
  return (event) => {
    switch (event._tag) {
      case "DuplicateReceived":
        return render(paint, {
          at: event.at,
          source: event.source,
          type: "",
          decision: "duplicate",
          policy: "-",
          tokens: "0",
          why: `is ${event.eventId} once more`
        })
      case "PolicyDecisionMade": {
        const { at, decision, eventId, policy, reason, source } = event
        const type = event.type ?? ""
        if (decision === "execute") {
          executed.set(eventId, { type, policy })
          return undefined
        }
        const why = reason ?? (decision === "merge" ? "held with others of its kind, to be handled by one run" : "")
        return render(paint, { at, source, type, decision, policy, tokens: "0", why })
      }
      case "ProactiveActionCompleted": {
        const { at, error, eventId, source, success, text, tokensUsed } = event
        const { policy, type } = executed.get(eventId) ?? { policy: "", type: "" }
        executed.delete(eventId)
        const decision = success ? "execute" : "failed"
        return render(paint, {
          at,
          source,
          type,
          decision,
          policy,
          tokens: String(tokensUsed),
          why: text ?? error ?? ""
        })
      }
      default:
        return undefined
    }
  }
}

const money = (dollars: number): string => `$${dollars.toFixed(4)}`

/** What came, what it led to, and what it cost. */
export const closingTable = (
  paint: Paint,
  events: number,
  calls: number,
  { budget, stats, totalCostUsd }: GatewayStatus
): string =>
  [
    ["events", "LLM calls", "avoided", "tokens", "money"],
    [
      String(events),
      String(calls),
      String(events - calls),
      `${stats.totalTokensUsed} of ${budget.limit ?? "∞"}`,
      money(totalCostUsd)
    ]
  ]
    .map((cells) => cells.map((cell) => cell.padEnd(16)).join(""))
    .map((line, i) => (i === 0 ? paint("bold", line) : line))
    .join("\n")
