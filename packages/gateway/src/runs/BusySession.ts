import { Effect } from "effect"
import type { GatewayError } from "../domain/Errors.ts"
import type { SessionsConfig } from "../domain/LimitsConfig.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import type { RunItem } from "./RunItem.ts"

/** Whether the answers of both go to the same place, or nowhere. */
const isSameRoute = ({ event: { replyTo: one } }: RunItem, { event: { replyTo: other } }: RunItem): boolean =>
  one?.channel === other?.channel && one?.target === other?.target

/** Characters of a payload that are shown beside its task, where it says more. */
const PAYLOAD = 200

const lineOf = ({ payloadText, taskDescription }: RunItem): string => {
  if (payloadText === "null" || payloadText.includes(JSON.stringify(taskDescription))) return taskDescription
  return `${taskDescription} ${payloadText.length > PAYLOAD ? `${payloadText.slice(0, PAYLOAD - 1)}…` : payloadText}`
}

export interface BusySessionOptions {
  /** What waits in the lane of a session, first come first. Within a step. */
  readonly waitingIn: (lane: string) => ReadonlyArray<RunItem>
  /** One that waits has ended, with the step. */
  readonly leave: (tx: Tx, item: RunItem) => void
  /** Records, within a step, that a run takes over what others were for. */
  readonly merge: (tx: Tx, item: RunItem, others: ReadonlyArray<RunItem>, task: string) => void
}

/** How a run of a session takes over what waits behind it. */
export const make = ({ whenBusy }: SessionsConfig, { leave, merge, waitingIn }: BusySessionOptions) =>
  Effect.map(Journal, (journal) => {
    /**
     * Takes over what waits for the same agent, and is to be answered in the same place; answers with what that was. What a
     * person approved runs as it is.
     */
    const take = (item: RunItem, taskOf: (lines: ReadonlyArray<string>) => string) =>
      journal.step((tx): ReadonlyArray<string> => {
        if (item.gone || item.approved !== undefined) return []
        const others: Array<RunItem> = []
        // In order: what another agent is to do first, or is answered elsewhere, is not overtaken.
        for (const other of waitingIn(item.lane)) {
          if (other === item) continue
          if (other.agentId !== item.agentId || other.approved !== undefined || !isSameRoute(item, other)) break
          others.push(other)
        }
        if (others.length === 0) return []
        const lines = others.map(lineOf)
        merge(tx, item, others, taskOf(lines))
        for (const other of others) leave(tx, other)
        return lines
      })
    const inSession = ({ event }: RunItem): boolean => event.sessionKey !== undefined

    return {
      /** Before a run begins: `collect` makes it one with all that waits behind it. */
      collect: (item: RunItem): Effect.Effect<unknown, GatewayError> =>
        whenBusy !== "collect" || !inSession(item)
          ? Effect.void
          : take(item, (lines) =>
              [
                `These ${lines.length + 1} messages came one after the other; handle them together:`,
                ...[lineOf(item), ...lines].map((line, i) => `${i + 1}. ${line}`)
              ].join("\n")
            ),
      /** What a runner is given to take from the run's session; `undefined` where it may not. */
      steering: (item: RunItem): Effect.Effect<ReadonlyArray<string>> | undefined =>
        whenBusy !== "steer" || !inSession(item)
          ? undefined
          : take(item, (lines) => [item.taskDescription, ...lines].join("\n\n")).pipe(
              // Not recorded is not taken: it has the next run.
              Effect.catchAll((error) => Effect.as(Effect.logWarning("steering was not recorded", error), []))
            )
    }
  })

export type BusySession = Effect.Effect.Success<ReturnType<typeof make>>
