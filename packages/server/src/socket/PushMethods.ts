import { Effect } from "effect"
import type { PushShape } from "../push/Push.ts"
import type { Handlers } from "./Methods.ts"
import { refused } from "./Refusal.ts"

type PushMethod = Extract<keyof Handlers, `push.${string}` | "presence.query">

/** What the methods of the push service do. */
export const make = (push: PushShape): Pick<Handlers, PushMethod> => ({
  "push.publish": ({ principal }, params) => refused(push.publish(principal, params)),
  "push.subscribe": (connection, params) => refused(push.sockets.subscribe(connection, params)),
  "push.unsubscribe": (connection, { channel, forget }) => {
    push.sockets.unsubscribe(connection, channel)
    return forget === undefined ? {} : refused(Effect.as(push.forget(connection.principal, channel, forget), {}))
  },
  "push.ack": ({ principal }, params) => refused(Effect.as(push.ack(principal, params), {})),
  "push.nack": ({ principal }, params) => refused(Effect.as(push.nack(principal, params), {})),
  "push.history": ({ principal }, params) =>
    refused(
      Effect.map(push.history(principal, params), ({ messages, ...page }) => ({
        ...page,
        messages: messages.map((message) => message.shown())
      }))
    ),
  "presence.query": ({ principal }, { channel }) => refused(push.presence(principal, channel))
})
