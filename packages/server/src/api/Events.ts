import { type EventRecord, GatewayService, type Receipt } from "@postilion/gateway"
import { Effect } from "effect"
import { Access } from "../Access.ts"
import { wasSaidBy } from "../Conversations.ts"
import { type Handlers, Text } from "./Operations.ts"
import { invalid, notFound } from "./Refusals.ts"

/** What is answered of an event that was handed in. */
export const received = ({ decision, duplicate, eventId }: Receipt) => ({
  eventId,
  duplicate,
  decision: decision ?? null
})

/** What came, and what became of it. */
export const events = Effect.gen(function* () {
  const gateway = yield* GatewayService
  const access = yield* Access
  const missing = (id: string) => notFound(`there is no event "${id}"`)

  return {
    list: ({ urlParams: { cursor, ...filter } }) =>
      cursor !== undefined && !/^\d{1,15}$/.test(cursor)
        ? invalid(`cursor: "${cursor}" is not the \`next\` of a page of events`)
        : Effect.map(
            gateway.list({ ...filter, before: cursor === undefined ? undefined : Number(cursor) }),
            ({ events, next }) => ({ events, next: next === undefined ? null : String(next) })
          ),
    submit: ({ payload: { idempotencyKey: key, ...event } }, { principal: { name: sender } }) =>
      Effect.map(
        gateway.submit({
          ...event,
          source: "state-change",
          sender,
          // Each principal has keys of its own, and none is a webhook's or a job's.
          idempotencyKey: key === undefined ? undefined : `http:${JSON.stringify([sender, key])}`
        }),
        received
      ),
    show: ({ path: { eventId } }, { principal }) => {
      const isShown = ({ event }: EventRecord): boolean =>
        access.allows(principal, "events.show") || wasSaidBy(principal.name, event)
      return Effect.flatMap(gateway.find(eventId), (record) =>
        record !== undefined && isShown(record) ? Effect.succeed(record) : missing(eventId)
      )
    },
    explain: ({ path: { eventId } }, { head }) =>
      Effect.flatMap(gateway.explain(eventId), (found) => {
        if (found === undefined) return missing(eventId)
        // As text for whoever asks for that and for nothing else.
        const asText = /^\s*text\/plain\b/i.test(head.headers.accept ?? "")
        return Effect.succeed(asText ? new Text(`${found.render()}\n`, "text/plain; charset=utf-8") : found)
      })
  } satisfies Handlers<"events">
})
