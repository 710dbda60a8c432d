import { Effect } from "effect"
import { Push } from "../push/Push.ts"
import type { Handlers } from "./Operations.ts"

/** The push service, for who cannot hold a socket. */
export const push = Effect.map(
  Push,
  (push) =>
    ({
      publish: ({ path: { channel }, payload }, { principal }) => push.publish(principal, { channel, ...payload }),
      poll: ({ path: { channel }, urlParams: { timeout: timeoutMs, ...options } }, { principal }) =>
        Effect.map(
          push.poll(principal, { channel, timeoutMs, ...options }),
          ({ attempts, cursor, messages, missed }) => ({
            cursor,
            missed,
            messages: messages.map((message) => {
              const attempt = attempts.get(message.seq)
              return attempt === undefined ? message.shown() : { ...message.shown(), attempt }
            })
          })
        ),
      ack: ({ path: { channel }, payload }, { principal }) =>
        Effect.as(push.ack(principal, { channel, ...payload }), {}),
      nack: ({ path: { channel }, payload }, { principal }) =>
        Effect.as(push.nack(principal, { channel, ...payload }), {}),
      presence: ({ path: { channel } }, { principal }) => push.presence(principal, channel),
      forget: ({ path: { channel, subscription } }, { principal }) =>
        Effect.as(push.forget(principal, channel, subscription), {})
    }) satisfies Handlers<"push">
)

/** What subscribers were told in vain. */
export const deadLetters = Effect.map(
  Push,
  ({ deadLetters }) =>
    ({
      list: ({ urlParams }) => Effect.map(deadLetters.list(urlParams), (letters) => ({ deadLetters: letters })),
      replay: ({ path: { deadLetterId } }, { principal: { name } }) => deadLetters.replay(deadLetterId, name),
      drop: ({ path: { deadLetterId } }, { principal: { name } }) => deadLetters.drop(deadLetterId, name)
    }) satisfies Handlers<"deadLetters">
)
