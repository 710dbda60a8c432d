import { Effect } from "effect"
import type { Conversations } from "../Conversations.ts"
import { type Handlers, Reply } from "./Operations.ts"

/** To talk to an agent. */
export const chat = ({ say }: Pick<Conversations, "say">) =>
  ({
    say: ({ payload }, { principal: { name } }) =>
      Effect.map(say(name, payload), ({ held, record: { decision, event, policy, reason, run } }) => {
        const said = {
          eventId: event.id,
          decision: decision ?? null,
          policy: policy ?? null,
          reason: reason ?? null,
          reply: run?.text ?? null
        }
        return held ? new Reply(said, { status: 202, headers: { location: `/events/${event.id}` } }) : said
      })
  }) satisfies Handlers<"chat">
