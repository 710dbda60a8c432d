/** A channel whose platform is the test. */
import type { Channel, DeliveryReceipt, OutboundMessage } from "@postilion/gateway"
import { ChannelSendError } from "@postilion/gateway/domain/Errors"
import { Effect } from "effect"

type Answer = Effect.Effect<DeliveryReceipt, ChannelSendError>

export const refusal = (outcome: ChannelSendError["outcome"], retryAfterMillis?: number): Answer =>
  Effect.fail(
    new ChannelSendError({
      channel: "test",
      outcome,
      message: `it was ${outcome}`,
      ...(retryAfterMillis === undefined ? {} : { retryAfterMillis })
    })
  )
export const taken: Answer = Effect.succeed({ reference: "ok" })

/** Answers each message with what `answer` says of it and of how many came before. */
export const channel = (
  answer: (message: OutboundMessage, before: number) => Answer = () => taken,
  { deduplicates = false, name = "test" }: { readonly name?: string; readonly deduplicates?: boolean } = {}
) => {
  const messages: Array<OutboundMessage> = []
  const given: Channel = {
    name,
    deduplicates,
    send: (message) =>
      Effect.suspend(() => {
        messages.push(message)
        return answer(message, messages.length - 1)
      })
  }
  return { ...given, messages }
}
