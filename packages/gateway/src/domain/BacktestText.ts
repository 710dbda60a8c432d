import type { Change, ReportFields } from "./BacktestFields.ts"

const number = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: 2 })
const plural = (count: number, one: string): string => `${number(count)} ${one}${count === 1 ? "" : "s"}`
/** `12 fewer model calls`; nothing when there is no difference. */
const differing = (difference: number, more: string, fewer: string): ReadonlyArray<string> =>
  difference === 0 ? [] : [difference > 0 ? more : fewer]
const arrow = ({ recorded, replayed }: Change): string => {
  const by = recorded.action === replayed.action ? `${replayed.policy} ← ${recorded.policy}` : replayed.policy
  return `${replayed.action} ← ${recorded.action}, ${by === "default" ? `${recorded.policy} lets go` : by}`
}

/** `41,203 events · 212 decisions differ (all queue ← execute, DeployFreeze) · 188 fewer model calls · $9.14 less`. */
const summary = ({ changed, changes, events, recorded, replayed }: ReportFields): string => {
  const [first] = changes
  const arrows = new Set(changes.map(arrow))
  const how = first === undefined ? "" : arrows.size === 1 ? ` (all ${arrow(first)})` : ` (most ${arrow(first)})`
  const calls = replayed.modelCalls - recorded.modelCalls
  const usd = Math.round((replayed.usd - recorded.usd) * 100) / 100
  const one = Math.abs(calls) === 1 ? "call" : "calls"
  return [
    plural(events, "event"),
    changed === 0
      ? "no decision differs"
      : `${number(changed)} ${changed === 1 ? "decision differs" : "decisions differ"}${how}`,
    ...differing(calls, `${number(calls)} more model ${one}`, `${number(-calls)} fewer model ${one}`),
    ...differing(usd, `$${usd.toFixed(2)} more`, `$${(-usd).toFixed(2)} less`)
  ].join(" · ")
}

/** A report in text. */
export const renderReport = (report: ReportFields): string => {
  const { changes, estimated, examples, notCaused, otherChanges, recorded, replayed, reworded, stillHeld } = report
  const costs = ({ modelCalls, tokens, usd }: ReportFields["recorded"]) =>
    `${plural(modelCalls, "model call")}, ${plural(tokens, "token")}, $${usd.toFixed(2)}`
  return [
    summary(report),
    `recorded: ${costs(recorded)}`,
    `replayed: ${costs(replayed)}${estimated.modelCalls === 0 ? "" : `, of which estimated: ${costs(estimated)}`}`,
    ...changes.map(
      (change) => `${number(change.count)} × ${arrow(change)}${change.reason === undefined ? "" : `: ${change.reason}`}`
    ),
    ...(otherChanges === 0 ? [] : [`${number(otherChanges)} × other changes`]),
    ...(reworded === 0 ? [] : [`${plural(reworded, "decision")} with another reason only`]),
    ...(notCaused === 0
      ? []
      : [`${plural(notCaused, "event")} left out, since the run that caused it did not come about`]),
    ...(stillHeld === 0 ? [] : [`${plural(stillHeld, "event")} still held at the end`]),
    ...examples.map(
      ({ at, eventId, recorded, replayed }) =>
        `${eventId} ${at.toISOString()}: ${replayed.action} by ${replayed.policy}${replayed.reason === undefined ? "" : ` (${replayed.reason})`}, was ${recorded.action} by ${recorded.policy}${recorded.reason === undefined ? "" : ` (${recorded.reason})`}`
    )
  ].join("\n")
}
