import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { EventSource, EventState } from "@postilion/gateway/domain/GatewayEvent"
import { Effect, Stream } from "effect"
import { happening, styleOf } from "../Describe.ts"
import { failed } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { facts, oneLine, paint, print, printJson, printLine, printList, say, when } from "../Output.ts"
import { asking, reading, running } from "../Reach.ts"
import { connect } from "../Socket.ts"

const kept = Effect.promise(() => import("../Kept.ts"))

const eventId = Args.text({ name: "event" }).pipe(Args.withDescription("The event's id."))

export const list = Command.make(
  "list",
  {
    state: Flags.choice("state", EventState.literals, "Only events that stand so."),
    source: Flags.choice("source", EventSource.literals, "Only events from there."),
    agentId: Flags.optional("agent", "id", "Only events for this agent."),
    from: Flags.instant("from", "Only events that came at or after this time."),
    to: Flags.instant("to", "Only events that came before this time."),
    cursor: Flags.optional("cursor", "cursor", "`next` of the page before."),
    limit: Flags.limit(1_000, 50),
    json: Flags.json,
    ...Flags.connected
  },
  ({ agentId, cursor, from, json, limit, source, state, to, ...flags }) =>
    Effect.gen(function* () {
      const filter = { state, source, agentId, from, to, cursor, limit }
      const found = yield* reading(
        flags,
        (api) => api.events.list({ urlParams: filter }),
        () => Effect.flatMap(kept, ({ events }) => events(filter))
      )
      yield* printList(
        json,
        found,
        found.events,
        [
          { head: "received", of: ({ receivedAt }) => when(receivedAt) },
          { head: "event", of: ({ id }) => id },
          { head: "source", of: ({ source }) => source },
          { head: "type", of: ({ type }) => type },
          { head: "agent", of: ({ agentId }) => agentId },
          { head: "state", of: ({ state }) => state },
          { head: "decision", of: ({ decision }) => decision, style: ({ decision }) => styleOf(decision) },
          { head: "policy", of: ({ policy }) => policy },
          { head: "reason", of: ({ reason }) => reason }
        ],
        "no event has come that is so"
      )
      if (!json && found.next !== null) yield* say(paint("dim", `there are more: --cursor ${found.next}`, "err"))
    })
).pipe(Command.withDescription("Lists events, newest first, and what was decided on each."))

export const show = Command.make(
  "show",
  { eventId, json: Flags.json, ...Flags.connected },
  ({ eventId, json, ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => api.events.show({ path: { eventId } }),
        () => Effect.flatMap(kept, ({ event }) => event(eventId))
      )
      if (json) return yield* printJson(found)
      const { approval, decision, delivery, event, policy, reason, run, state } = found
      const why = reason === undefined ? "" : `: ${reason}`
      yield* print(
        facts([
          ["event", `${event.id}, ${event.source} for ${event.agentId ?? "nobody"}, ${when(event.timestamp)}`],
          ["state", state],
          ["decision", decision === undefined ? undefined : `${decision} by ${policy ?? "nobody"}${why}`],
          ["approval", approval === undefined ? undefined : `${approval.id}, ${approval.state}`],
          ["run", run === undefined ? undefined : `${run.id}, ${run.state} on ${run.model ?? "no model yet"}`],
          ["tokens", run === undefined ? undefined : String(run.inputTokens + run.outputTokens)],
          ["said", oneLine(run?.text ?? run?.error ?? "", 1_000)],
          ["delivery", delivery === undefined ? undefined : `${delivery.id}, ${delivery.state}`],
          ["metadata", oneLine(JSON.stringify(event.metadata), 1_000)],
          ["payload", oneLine(JSON.stringify(event.payload), 1_000)]
        ])
      )
    })
).pipe(Command.withDescription("Shows what is recorded of an event; with --json everything."))

export const explain = Command.make(
  "explain",
  { eventId, json: Flags.json, ...Flags.connected },
  ({ eventId, json, ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => api.events.explain({ path: { eventId } }),
        () => Effect.flatMap(kept, ({ explanation }) => explanation(eventId))
      )
      yield* json ? printJson(found) : print(found.render())
    })
).pipe(
  Command.withDescription(
    "Says why it went so with an event: each policy's answer, what they saw, who approved, what ran, what it cost."
  )
)

export const tail = Command.make(
  "tail",
  {
    types: Flags.optional("types", "names", "Only these, with commas between them: PolicyDecisionMade,EventsMerged."),
    agentId: Flags.optional("agent", "id", "Only what has to do with this agent."),
    since: Flags.optional("since", "cursor", "What came after this cursor first."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ agentId, json, since, types, ...flags }) =>
    Effect.gen(function* () {
      const client = yield* connect(yield* running(flags), "viewer")
      const events = yield* client.events
      yield* client.request("events.subscribe", { filter: { types: types?.split(","), agentId }, since })
      yield* Stream.runForEach(events, (event) => {
        if (event.type === "GATEWAY") {
          return json ? printLine({ cursor: event.cursor, ...event.event }) : print(happening(event.event))
        }
        if (event.type === "GAP") {
          const missed = event.missed === null ? "some events are" : `${event.missed} events are`
          return json ? printLine({ _tag: "Gap", missed: event.missed }) : say(`${missed} missing here`)
        }
        return event.type === "ERROR" ? say(oneLine(`${event.message}; ${event.nextStep}`)) : Effect.void
      })
    }).pipe(Effect.scoped)
).pipe(
  Command.withDescription(
    "Shows what happens in the gateway as it happens, across its restarts, until Ctrl-C. With --json a line of JSON each."
  )
)

export const send = Command.make(
  "send",
  {
    text: Args.text({ name: "text" }).pipe(Args.withDescription("What is said.")),
    chat: Flags.optional("chat", "id", "Keeps conversations apart. Default: `default`."),
    replyTo: Flags.optional("reply-to", "callback", "A callback the answer is also sent to."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ chat, json, replyTo, text, ...flags }) =>
    asking(flags, (api) =>
      Effect.gen(function* () {
        const found = yield* api.chat.say({ payload: { text, chatId: chat ?? "default", replyTo } })
        if (json) return yield* printJson(found)
        const { decision, eventId, policy, reason, reply } = found
        if (reply !== null) return yield* print(reply)
        const why = `${decision ?? "undecided"} by ${policy ?? "nobody yet"}${reason === null ? "" : `: ${reason}`}`
        if (decision === "skip") {
          return yield* failed(`no agent answers: ${why}`, `\`postilion explain ${eventId}\` says more`)
        }
        yield* say(`it waits: ${why}; \`postilion explain ${eventId}\` says how it stands`)
      })
    )
).pipe(Command.withDescription("Says something to an agent, as who holds the token, and waits for the answer."))
