import { Effect } from "effect"
import type { SessionsConfig } from "../domain/LimitsConfig.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import type { Lanes } from "./Lanes.ts"
import type { RunItem } from "./RunItem.ts"

/** How much may wait in a session, and what happens to what is more. Plain code within a journal step. */
export const make = ({ maxWaiting, overflow }: SessionsConfig, lanes: Lanes<RunItem>) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    /** Recorded by a step that is not committed yet. */
    const coming = new Map<string, Array<RunItem>>()
    /** Ended by a step that is not committed yet. */
    const going = new Set<RunItem>()

    // A batch that is withdrawn takes all of it back.
    yield* journal.register(
      Effect.sync(() => {
        coming.clear()
        for (const item of going) item.gone = false
        going.clear()
      })
    )
    const waitingIn = (lane: string): ReadonlyArray<RunItem> =>
      [...lanes.waitingIn(lane), ...(coming.get(lane) ?? [])].filter(({ gone }) => !gone)

    /** One that waits has ended, with the step: no later one may begin or end it, though its turn comes meanwhile. */
    const leave = (tx: Tx, item: RunItem): void => {
      item.gone = true
      going.add(item)
      tx.onCommit(() => {
        going.delete(item)
        lanes.remove(item)
      })
    }
    return {
      /** What waits in a lane as the steps so far have it, first come first. */
      waitingIn,
      leave,
      /** Whether an event for this session has to be refused; that it is, is recorded. */
      refuses: (tx: Tx, sessionKey: string, agentId: string): boolean => {
        if (overflow !== "refuse") return false
        const waiting = waitingIn(sessionKey).length
        if (waiting < maxWaiting) return false
        audit.append(tx, { kind: "session.overflowed", data: { sessionKey, agentId, waiting, outcome: "refused" } })
        tx.publish({
          _tag: "SessionOverflowed",
          at: tx.now,
          agentId,
          sessionKey,
          waiting,
          outcome: "refused",
          eventId: undefined
        })
        return true
      },
      /** A run of a session is recorded: makes room for it, by the way of `drop`. */
      admit: (tx: Tx, item: RunItem, drop: (tx: Tx, item: RunItem, error: string) => void): void => {
        const { sessionKey } = item.event
        if (sessionKey === undefined) return
        const waiting = waitingIn(sessionKey)
        const [oldest] = waiting
        if (overflow === "drop-oldest" && oldest !== undefined && waiting.length >= maxWaiting) {
          leave(tx, oldest)
          const error = `dropped, since more than ${maxWaiting} runs would wait in its session (sessions.maxWaiting)`
          drop(tx, oldest, error)
          const { agentId, event } = oldest
          const data = { sessionKey, agentId, waiting: waiting.length, outcome: "dropped" }
          audit.append(tx, { kind: "session.overflowed", eventId: event.id, data })
          tx.publish({
            _tag: "SessionOverflowed",
            at: tx.now,
            agentId,
            sessionKey,
            waiting: waiting.length,
            outcome: "dropped",
            eventId: event.id
          })
        }
        coming.set(sessionKey, [...(coming.get(sessionKey) ?? []), item])
        tx.onCommit(() => {
          const left = (coming.get(sessionKey) ?? []).filter((other) => other !== item)
          if (left.length === 0) coming.delete(sessionKey)
          else coming.set(sessionKey, left)
        })
      }
    }
  })
