import * as Command from "@effect/cli/Command"
import type * as Gateway from "@postilion/client/api/Gateway"
import { Effect } from "effect"
import { temporary } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { facts, oneLine, paint, print, printJson, printList, say, table, when } from "../Output.ts"
import { asking, listens, notRunning, reading, target } from "../Reach.ts"

type Status = typeof Gateway.Status.Type

const kept = Effect.promise(() => import("../Kept.ts"))

const number = (value: number): string => value.toLocaleString("en-US")
const of = (used: number, limit: number | null): string => `${number(used)} of ${limit === null ? "∞" : number(limit)}`
const span = (ms: number): string => {
  const seconds = Math.floor(ms / 1_000)
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"]
  ] as const
  return parts
    .filter(([value], i) => value > 0 || i === 3)
    .slice(0, 2)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(" ")
}

/** What there is to say of the configuration, where it is not as the file has it. */
const configured = ({ atRestart, error, loadedAt }: Status["config"]): string =>
  [
    `as of ${when(loadedAt)}`,
    ...(atRestart.length === 0 ? [] : [`at the next start: ${atRestart.join(", ")}`]),
    ...(error === undefined ? [] : [paint("red", `what the file says now was refused: ${oneLine(error, 300)}`)])
  ].join("; ")

/** What only a gateway that runs has to say. */
const running = ({ components, config, held, isRunning, stats, totalCostUsd, uptime }: Status, url: string) => {
  const ill = components.filter(({ state }) => state !== "running")
  const state = held !== undefined ? "held" : isRunning ? "running" : "stopped"
  return {
    gateway: `${paint(state === "running" ? "green" : "yellow", state)} for ${span(uptime)} at ${url}`,
    held: held === undefined ? undefined : `since ${when(held.since)}: ${held.reason}`,
    sinceStart: `${number(stats.totalTokensUsed)} tokens, $${totalCostUsd.toFixed(4)}, ${number(stats.actionsSuppressed)} suppressed, ${number(stats.actionsEscalated)} escalated`,
    configuration: configured(config),
    components:
      ill.length === 0
        ? "all running"
        : ill.map(({ lastError, name, state }) => `${name} ${state}: ${lastError ?? "?"}`).join("; ")
  }
}

export const status = Command.make("status", { json: Flags.json, ...Flags.connected }, (flags) =>
  Effect.gen(function* () {
    const meant = yield* target(flags)
    const found = yield* reading(
      flags,
      (api) => api.gateway.status(),
      (loaded) => Effect.flatMap(kept, ({ status }) => status(loaded))
    )
    const live = "uptime" in found ? running(found, meant.url) : undefined
    const { budget, deliveries, pending, rate, scheduler, switches } = found
    if (flags.json) yield* printJson(found)
    else {
      yield* print(
        facts([
          ["gateway", live?.gateway ?? `${paint("yellow", "not running")}; what its records say:`],
          ["held", live?.held],
          [
            "switches",
            Object.entries(switches)
              .map(([agent, mode]) => `${agent === "*" ? "all agents" : agent} ${mode}`)
              .join(", ")
          ],
          [
            "today",
            `${of(budget.used, budget.limit)} tokens, ${number(budget.reserved)} held, until ${when(budget.resetsAt)}`
          ],
          ["this hour", `${of(rate.count, rate.limit)} actions`],
          ["since start", live?.sinceStart],
          [
            "waiting",
            `${pending.queued} queued, ${pending.merging} merging, ${pending.awaitingApproval} for a person, ${pending.waiting} for a turn; ${pending.running} running`
          ],
          [
            "deliveries",
            `${deliveries.sent} sent, ${deliveries.prepared + deliveries.sending} under way, ${deliveries.unknown} unknown, ${deliveries.failed} dead letters`
          ],
          [
            "jobs",
            `${scheduler.jobs}, next ${when(scheduler.nextWake) ?? "never"}${scheduler.stalled ? paint("red", ", stalled") : ""}`
          ],
          ["configuration", live?.configuration],
          ["components", live?.components]
        ])
      )
    }
    if (live === undefined) return yield* notRunning(meant)
  })
).pipe(
  Command.withDescription(
    "Shows how the gateway stands: what it did, what waits, what budgets are left. Where none runs, says of it what its records do, and ends with 75."
  )
)

const STOPPED_WITHIN = "2 minutes"

export const stop = Command.make("stop", { ...Flags.connected }, (flags) =>
  Effect.gen(function* () {
    const { url } = yield* target(flags)
    yield* asking(flags, (api) => api.gateway.shutdown())
    yield* say(`told the gateway at ${url} to stop; waiting for what runs to finish`)
    yield* Effect.repeat(Effect.delay(listens(url), "100 millis"), { while: (listening) => listening }).pipe(
      Effect.timeoutFail({
        duration: STOPPED_WITHIN,
        onTimeout: () =>
          temporary("it is still stopping after two minutes", "`drainDeadlineMs` says how long it may take")
      })
    )
    yield* say("it has stopped")
  })
).pipe(
  Command.withDescription("Ends the gateway, and waits until it has: what runs may finish, within `drainDeadlineMs`.")
)

const agent = Flags.optional("agent", "id", "Only this agent. Default: all.")
const switching = (verb: "pause" | "resume", about: string) =>
  Command.make(verb, { agent, ...Flags.connected }, (flags) =>
    asking(flags, (api) =>
      Effect.gen(function* () {
        const { agent: agentId } = flags
        const { agentId: whom, mode } = yield* agentId === undefined
          ? api.switches[verb]()
          : api.switches[`${verb}Agent`]({ path: { agentId } })
        yield* say(`${whom === "*" ? "all agents" : whom}: ${mode}`)
      })
    )
  ).pipe(Command.withDescription(about))
export const pause = switching("pause", "Holds events back from agents: they are kept and judged, and wait.")
export const resume = switching("resume", "Lets events reach agents again, those that waited first.")

export const agents = Command.make("list", { json: Flags.json, ...Flags.connected }, (flags) =>
  Effect.gen(function* () {
    const found = yield* reading(
      flags,
      (api) => api.gateway.agents(),
      (loaded) => Effect.flatMap(kept, ({ agents }) => agents(loaded))
    )
    yield* printList(
      flags.json,
      found,
      found.agents,
      [
        { head: "agent", of: ({ id }) => id },
        { head: "mode", of: ({ mode }) => mode, style: ({ mode }) => (mode === "running" ? "green" : "yellow") }
      ],
      "there are no agents"
    )
  })
).pipe(Command.withDescription("Lists the agents, and whether they run."))

const money = (usd: number | null): string => (usd === null ? "unknown" : `$${usd.toFixed(4)}`)
export const budget = Command.make(
  "budget",
  {
    from: Flags.optional("from", "day", "The first day, as 2026-01-31. Default: the first of the month."),
    to: Flags.optional("to", "day", "The last day. Default: today."),
    json: Flags.json,
    ...Flags.connected
  },
  (flags) =>
    Effect.gen(function* () {
      const { from, to } = flags
      const found = yield* reading(
        flags,
        (api) => api.gateway.budget({ urlParams: { from, to } }),
        (loaded) => Effect.flatMap(kept, ({ budget }) => budget(loaded, { from, to }))
      )
      if (flags.json) return yield* printJson(found)
      const amount = (unit: "tokens" | "usd", value: number | null): string =>
        value === null ? "∞" : unit === "usd" ? money(value) : number(value)
      yield* print(
        table(found.budgets, [
          { head: "budget of", of: ({ scope }) => (scope === "*" ? "all" : scope) },
          { head: "per", of: ({ window }) => window },
          { head: "used", of: ({ unit, used }) => amount(unit, used), align: "right" },
          { head: "held", of: ({ reserved, unit }) => amount(unit, reserved), align: "right" },
          { head: "limit", of: ({ limit, unit }) => amount(unit, limit), align: "right" },
          { head: "unit", of: ({ unit }) => unit },
          { head: "until", of: ({ resetsAt }) => when(resetsAt) }
        ])
      )
      yield* print(`\n${paint("bold", `spent from ${found.from} to ${found.to}`)}`)
      const rows = [
        ...found.byAgent.map((row) => ({ by: "agent", ...row })),
        ...found.byModel.map((row) => ({ by: "model", ...row })),
        { by: "", name: "all", ...found.total }
      ]
      yield* print(
        table(rows, [
          { head: "by", of: ({ by }) => by },
          { head: "name", of: ({ name }) => name },
          { head: "runs", of: ({ runs }) => number(runs), align: "right" },
          {
            head: "tokens",
            of: ({ inputTokens, outputTokens }) => number(inputTokens + outputTokens),
            align: "right"
          },
          { head: "cost", of: ({ costUsd }) => money(costUsd), align: "right" }
        ])
      )
    })
).pipe(Command.withDescription("Shows every budget as it stands, and what a range of days cost, by agent and model."))
