import type { Fields } from "./ExplanationFields.ts"
import type { RoutedBy } from "./Routing.ts"
import { ALL_AGENTS } from "./Switch.ts"

type Part<K extends keyof Fields> = Fields[K] extends ReadonlyArray<infer A> ? A : never
type Decision = Part<"decisions">

const LONGEST = 300
/** One line of what somebody sent or said: nothing in it moves a terminal's cursor or changes its colours. */
const line = (text: string): string => {
  const flat = text.replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim()
  return flat.length > LONGEST ? `${flat.slice(0, LONGEST - 1)}…` : flat
}
const number = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: 6 })
const at = (instant: Date): string => instant.toISOString()
const plural = (count: number, one: string): string => `${number(count)} ${one}${count === 1 ? "" : "s"}`
const because = (reason: string | undefined): string => (reason === undefined ? "" : `: ${line(reason)}`)

const sawLines = ({ saw }: Decision): ReadonlyArray<string> => {
  const { agent, approval, budgets, chain, heartbeat, merge, pending, rate, sender } = saw
  const limit = (value: number | null) => (value === null ? "no limit" : number(value))
  return [
    ...budgets.map(({ estimate, reserved, resetsAt, scope, unit, used, window, ...budget }, i) => {
      const whose = scope === ALL_AGENTS ? "" : ` for ${line(scope)}`
      const of = `${number(used)} used and ${number(reserved)} reserved of ${limit(budget.limit)}`
      const next = `${number(estimate)} needed at most, until ${at(resetsAt)}`
      return `${i === 0 ? "saw " : "    "}${unit} this ${window}${whose}: ${of}, ${next}`
    }),
    `    ${number(rate.count)} of ${limit(rate.limit)} actions this hour (until ${at(rate.resetsAt)})`,
    `    ${pending.queued} queued, ${pending.merging} merging, ${pending.awaitingApproval} waiting for a person, ${pending.running} running`,
    `    heartbeat: ${plural(heartbeat.consecutiveSkips, "skip")} in a row, ${heartbeat.changed ? "something" : "nothing"} has changed since the last tick`,
    ...(merge === null ? [] : [`    merged: ${plural(merge.count, "event")} of ${line(merge.key)}`]),
    ...(approval === null ? [] : [`    approved by ${line(approval.by)} (${approval.id})`]),
    ...(chain.depth === 0
      ? []
      : [`    chain: ${plural(chain.depth, "run")} before it, ${chain.count} of its events in a minute`]),
    ...(sender.count === 0 ? [] : [`    sender: ${plural(sender.count, "event")} in a minute`]),
    ...(agent.failures === 0 ? [] : [`    agent: the last ${plural(agent.failures, "run")} failed`])
  ]
}
const decisionLines = (decision: Decision, place: number): ReadonlyArray<string> => {
  const { action, answers, mergeKey, policy, reason, shadows, until } = decision
  const key = mergeKey === undefined ? "" : ` with ${line(mergeKey)}`
  const due = until === undefined ? "" : ` until ${at(until)}`
  return [
    `${place + 1}. ${at(decision.at)}  ${action}${key} by ${line(policy)}${due}${because(reason)}`,
    ...(answers.length === 0
      ? []
      : [`   ${answers.map(({ answer, policy }) => `${line(policy)} ${answer}`).join(" · ")}`]),
    ...sawLines(decision).map((text) => `   ${text}`),
    ...shadows.map(({ agrees, answer, by, decision, policy, reason }) =>
      decision === undefined
        ? `   shadow ${line(policy)}: late, since ${line(by)} did not answer at once`
        : `   shadow ${line(policy)} (${answer}): ${agrees === true ? "the same" : "would have been"} ${decision} by ${line(by)}${because(reason)}`
    )
  ]
}
const approvalLines = (approval: Part<"approvals">): ReadonlyArray<string> => {
  const { approvers, consumedBy, decidedAt, decidedBy, digest, expiresAt, id, state, votes } = approval
  const ended =
    decidedAt === undefined ? ` until ${at(expiresAt)}` : ` by ${line(decidedBy ?? "nobody")} at ${at(decidedAt)}`
  const needed = approvers === 1 ? "" : `, ${approvers} persons needed`
  const used = consumedBy === undefined ? "" : `, used for ${consumedBy}`
  return [
    `approval ${id}: ${state}${ended}${needed}${used}${because(approval.reason)}`,
    `   digest ${digest}`,
    ...votes.map((vote) => `   ${vote.answer} by ${line(vote.by)} at ${at(vote.at)}`)
  ]
}
const runLines = (run: Part<"runs">): ReadonlyArray<string> => {
  const cost = run.costUsd === undefined ? "" : `, $${number(run.costUsd)}`
  const { worker } = run
  const by = worker === undefined ? "" : ` by ${line(worker.principal)} (${line(worker.client)})`
  const model = run.model === undefined ? "" : ` on ${line(run.model)}`
  const tokens = `${number(run.inputTokens)} + ${number(run.outputTokens)} tokens`
  const to = run.endedAt === undefined ? "" : ` to ${at(run.endedAt)}`
  const when = run.startedAt === undefined ? "" : `, ${at(run.startedAt)}${to}`
  return [
    `run ${run.id}: ${run.state}${model}${by} after ${plural(run.attempts, "attempt")}, ${tokens}${cost}${when}${because(run.error)}`,
    `   asked: ${line(run.task)}`,
    ...(run.text === undefined ? [] : [`   said: ${line(run.text)}`])
  ]
}
const deliveryLine = (delivery: Part<"deliveries">): string => {
  const { attempts, endedAt, error, id, reference, state, to } = delivery
  const when = endedAt === undefined ? "" : ` at ${at(endedAt)}`
  const as = reference === undefined ? "" : ` as ${line(reference)}`
  return `delivery ${id}: ${state}${when} after ${plural(attempts, "attempt")} to ${line(to.channel)} ${line(to.target)}${as}${because(error)}`
}
const otherLine = ({ causedBy, distance, eventId, source, state, type }: Part<"causes">): string => {
  const by = causedBy === undefined ? "from outside" : `by ${causedBy}`
  return `${"  ".repeat(distance)}${eventId} ${source}${type === undefined ? "" : ` ${line(type)}`}, ${state}, ${by}`
}
/** Why something is for its agent. */
export const routeLine = ({ by, conditions = {} }: RoutedBy): string => {
  if (by === "agentId") return "it names its agent"
  if (by === "agents") return "no rule is for it: the first of the agents has it"
  const asked = Object.entries(conditions).map(([condition, value]) => `${condition} ${line(value ?? "")}`)
  return `routed by ${by}${asked.length === 0 ? "" : `: ${asked.join(", ")}`}`
}

/** An explanation in text. What was sent or said is cut to 300 characters. */
export const render = (explanation: Fields): string => {
  const { agentId, causes, consequences, denied, eventId, leads, mergedInto, priority, receivedAt, sender } =
    explanation
  const type = explanation.type === undefined ? "" : ` ${line(explanation.type)}`
  const from = sender === undefined ? "" : ` from ${line(sender)}`
  const session = explanation.sessionKey === undefined ? "" : ` in ${line(explanation.sessionKey)}`
  return [
    `${eventId}: ${explanation.source}${type}${from} for ${line(agentId)}, ${priority}${session}, ${at(receivedAt)}`,
    routeLine(explanation.route),
    `${explanation.state}${because(denied)}`,
    ...(explanation.decisions.length === 0 ? ["no policy has decided yet"] : []),
    ...explanation.decisions.flatMap(decisionLines),
    ...explanation.approvals.flatMap(approvalLines),
    ...explanation.runs.flatMap(runLines),
    ...explanation.deliveries.map(deliveryLine),
    ...(mergedInto === undefined ? [] : [`merged into ${mergedInto}`]),
    ...(leads.length === 0 ? [] : [`leads ${leads.join(", ")}${explanation.leadsMore ? ", …" : ""}`]),
    ...(causes.length === 0 ? [] : ["led to by", ...causes.map(otherLine)]),
    ...(consequences.length === 0 ? [] : ["led to", ...consequences.map(otherLine)]),
    ...(explanation.hasMoreConsequences ? ["  … and more"] : [])
  ].join("\n")
}
