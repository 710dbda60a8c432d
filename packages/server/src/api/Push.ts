import { Effect } from "effect"
import * as Service from "../push/Push.ts"
import type { Handlers } from "./Operations.ts"

const done = () => ({})

/** Channels that are published in and heard. */
export const push = Effect.map(
  Service.Push,
  (push) =>
    ({
      publish: ({ path: { channel }, payload }, { principal }) => push.publish(principal, { channel, ...payload }),
      poll: ({ path: { channel }, urlParams: { timeout: timeoutMs, ...options } }, { principal }) =>
        Effect.map(
          push.poll(principal, { channel, timeoutMs, ...options }),
          ({ attempts, cursor, messages, missed }) => ({
            messages: messages.map((message) => ({ ...message.shown(), attempt: attempts.get(message.seq) })),
            cursor,
            missed
          })
        ),
      ack: ({ path: { channel }, payload }, { principal }) =>
        Effect.map(push.ack(principal, { channel, ...payload }), done),
      nack: ({ path: { channel }, payload }, { principal }) =>
        Effect.map(push.nack(principal, { channel, ...payload }), done),
      presence: ({ path: { channel } }, { principal }) => push.presence(principal, channel),
      forget: ({ path: { channel, subscription } }, { principal }) =>
        Effect.map(push.forget(principal, channel, subscription), done)
    }) satisfies Handlers<"push">
)

/** What subscribers were told in vain. */
export const deadLetters = Effect.map(
  Service.Push,
  ({ deadLetters }) =>
    ({
      list: ({ urlParams }) => Effect.map(deadLetters.list(urlParams), (deadLetters) => ({ deadLetters })),
      replay: ({ path: { letterId } }, { principal: { name } }) => deadLetters.replay(letterId, name),
      drop: ({ path: { letterId } }, { principal: { name } }) => deadLetters.drop(letterId, name)
    }) satisfies Handlers<"deadLetters">
)
