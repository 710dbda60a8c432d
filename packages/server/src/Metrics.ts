import { BudgetLedger, GatewayService, type GatewayStats, type GatewayStatus, Journal } from "@postilion/gateway"
import type { Budget } from "@postilion/gateway/domain/Budget"
import { Clock, Effect } from "effect"
import { Push, type PushShape } from "./push/Push.ts"

interface Sample {
  readonly labels?: Readonly<Record<string, string>>
  readonly value: number
}

/** Samples of one name. */
interface Family {
  readonly name: string
  readonly type: "counter" | "gauge"
  readonly help: string
  readonly samples: ReadonlyArray<Sample>
}

const escape = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")
const quote = (text: string): string => `"${escape(text).replaceAll('"', '\\"')}"`

const line = (name: string, { labels = {}, value }: Sample): string => {
  const written = Object.entries(labels).map(([label, text]) => `${label}=${quote(text)}`)
  return `${name}${written.length === 0 ? "" : `{${written.join(",")}}`} ${value}\n`
}
const render = (families: ReadonlyArray<Family>): string =>
  families
    .filter(({ samples }) => samples.length > 0)
    .map(
      ({ help, name, samples, type }) =>
        `# HELP ${name} ${escape(help)}\n# TYPE ${name} ${type}\n${samples.map((sample) => line(name, sample)).join("")}`
    )
    .join("")

const COUNTED: { readonly [K in keyof GatewayStats]: readonly [name: string, help: string] } = {
  heartbeatsFired: ["heartbeats_fired", "Heartbeat ticks that reached the agent."],
  heartbeatsSkipped: ["heartbeats_skipped", "Heartbeat ticks that a policy kept from the agent."],
  webhooksReceived: ["webhooks_received", "Webhook events that were accepted."],
  webhooksProcessed: ["webhooks_processed", "Webhook events that reached the agent; a merged run counts once."],
  webhooksMerged: ["webhooks_merged", "Webhook events that were merged into another."],
  cronsExecuted: ["crons_executed", "Cron instants that reached the agent."],
  chatTurnsHandled: ["chat_turns_handled", "Channel messages an agent answered."],
  totalTokensUsed: ["tokens_used", "Model tokens that runs used."],
  actionsSuppressed: ["actions_suppressed", "Events that a policy kept from the agent."],
  actionsEscalated: ["actions_escalated", "Events that were put before a person."]
}

const yes = (so: boolean): number => (so ? 1 : 0)
const counter = (name: string, help: string, value: number): Family => ({
  name: `postilion_${name}_total`,
  type: "counter",
  help: `${help} Since start.`,
  samples: [{ value }]
})
const gauge = (name: string, help: string, samples: number | ReadonlyArray<Sample>): Family => ({
  name: `postilion_${name}`,
  type: "gauge",
  help,
  samples: typeof samples === "number" ? [{ value: samples }] : samples
})
const by = (label: string, values: object): ReadonlyArray<Sample> =>
  Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value: Number(value) }))

const familiesOf = (
  { components, deliveries, held, pending, rate, scheduler, stats, switches, totalCostUsd, uptime }: GatewayStatus,
  budgets: ReadonlyArray<Budget>,
  storageFails: boolean
): ReadonlyArray<Family> => {
  const { sent, ...waiting } = deliveries
  const eachBudget = (value: (budget: Budget) => number | null): ReadonlyArray<Sample> =>
    budgets.flatMap((budget) => {
      const { scope, unit, window } = budget
      const shown = value(budget)
      return shown === null ? [] : [{ labels: { scope, unit, window }, value: shown }]
    })
  return [
    gauge("uptime_seconds", "Seconds since the gateway started.", uptime / 1_000),
    ...Object.entries(COUNTED).map(([key, [name, help]]) => counter(name, help, stats[key as keyof GatewayStats])),
    counter("cost_usd", "US dollars that runs cost, those of models with a price.", totalCostUsd),
    counter("deliveries_sent", "Answers that were sent.", sent),
    gauge("deliveries", "Answers that are not sent, by state.", by("state", waiting)),
    gauge("pending", "Events and runs that have not ended, by what they wait for.", by("state", pending)),
    gauge("actions_in_hour", "Runs that were decided on in the hour under way.", rate.count),
    gauge(
      "actions_in_hour_limit",
      "The most of them there may be.",
      rate.limit === null ? [] : [{ value: rate.limit }]
    ),
    gauge(
      "budget_used",
      "What ended runs used of a budget in its window under way.",
      eachBudget(({ used }) => used)
    ),
    gauge(
      "budget_reserved",
      "What is held for runs that have not ended.",
      eachBudget(({ reserved }) => reserved)
    ),
    gauge(
      "budget_limit",
      "The most that may be used; none where there is no limit.",
      eachBudget(({ limit }) => limit)
    ),
    gauge("scheduler_jobs", "Jobs there are.", scheduler.jobs),
    gauge("scheduler_stalled", "1: jobs that are due do not fire.", yes(scheduler.stalled)),
    gauge("held", "1: nothing is run or sent until release, after too many crashes.", yes(held !== undefined)),
    gauge(
      "switch",
      "1: this agent (*: all) is in a mode other than running.",
      Object.entries(switches).map(([agent, mode]) => ({ labels: { agent, mode }, value: 1 }))
    ),
    gauge("storage_failing", "1: what happens cannot be written.", yes(storageFails)),
    gauge(
      "component_running",
      "0: this part has failed, and begins again.",
      components.map(({ name, state }) => ({ labels: { component: name }, value: yes(state === "running") }))
    ),
    {
      name: "postilion_component_restarts_total",
      type: "counter",
      help: "How often this part has begun again. Since start.",
      samples: components.map(({ name, restarts }) => ({ labels: { component: name }, value: restarts }))
    }
  ]
}

const familiesOfPush = (counts: ReturnType<PushShape["counts"]>): ReadonlyArray<Family> => [
  counter("push_published", "Messages that were published in channels.", counts.published),
  counter("push_told", "Messages that were told to subscribers, each time to each.", counts.told),
  counter("push_acknowledged", "Messages that subscriptions acknowledged.", counts.acked),
  counter("push_retried", "Messages that were told in vain, and are told again.", counts.retried),
  counter("push_died", "Messages that became dead letters.", counts.died),
  gauge("push_dead_letters", "Dead letters that wait for a person.", counts.deadLetters),
  gauge("push_channels", "Channels that are in use, or keep something.", counts.channels),
  gauge("push_hearers", "Connections and requests that hear a channel, one each.", counts.hearers),
  gauge("push_subscriptions", "Durable subscriptions.", counts.subscriptions),
  gauge("push_polls", "Requests that wait for a message.", counts.polls)
]

/** What the text is said to be. */
export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

/** What the gateway knows of itself, in the text format of Prometheus. */
export const make: Effect.Effect<
  Effect.Effect<string>,
  never,
  GatewayService | Journal | BudgetLedger | Push
> = Effect.gen(function* () {
  const gateway = yield* GatewayService
  const journal = yield* Journal
  const ledger = yield* BudgetLedger
  const push = yield* Push
  return Effect.gen(function* () {
    const status = yield* gateway.status()
    const budgets = ledger.budgets(yield* Clock.currentTimeMillis)
    return render([...familiesOf(status, budgets, journal.failing() !== undefined), ...familiesOfPush(push.counts())])
  })
})
