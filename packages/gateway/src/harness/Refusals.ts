import { Effect } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { GatewayError } from "../domain/Errors.ts"
import type { Tx } from "../records/Journal.ts"
import { Dispatcher } from "../runs/Dispatcher.ts"
import { KillSwitch } from "../runs/KillSwitch.ts"
import type { Holds } from "./Holds.ts"

const overloaded = (what: string) =>
  new GatewayError({ reason: "overloaded", message: `${what}; try again in a second` })

/** Why an event is not taken. */
export const make = ({ limits, policies, sessions }: GatewayConfig, holds: Holds) =>
  Effect.gen(function* () {
    const dispatcher = yield* Dispatcher
    const killSwitch = yield* KillSwitch
    let closed = false

    /** Before a step: the gateway is closing, or the agent stopped. */
    const refusal = (agentId: string): GatewayError | undefined => {
      if (closed) {
        return new GatewayError({ reason: "draining", message: "the gateway is closing; try again once it is back" })
      }
      const mode = killSwitch.mode(agentId)
      return policies.whenStopped === "refuse" && (mode === "stopped" || mode === "terminated")
        ? new GatewayError({ reason: "stopped", message: `agent "${agentId}" is ${mode}; resume it first` })
        : undefined
    }
    /** Within the step that would accept one more: what is decided and not committed yet counts. */
    const overload = (tx: Tx, agentId: string, sessionKey: string | undefined): GatewayError | undefined => {
      const { maxHeld, maxInbox, maxWaitingRuns } = limits
      if (dispatcher.isFull(agentId)) {
        return overloaded(`as many runs of agent "${agentId}" wait as may (limits.maxWaitingRuns: ${maxWaitingRuns})`)
      }
      const { approval, merging, queued, undecided } = holds.counts
      if (undecided >= maxInbox) {
        return overloaded(`the gateway is busy: ${undecided} events wait for a policy to answer`)
      }
      if (queued + merging + approval >= maxHeld) {
        return overloaded(`as many events wait for their time or a person as may (limits.maxHeld: ${maxHeld})`)
      }
      return sessionKey !== undefined && dispatcher.refuses(tx, sessionKey, agentId)
        ? overloaded(`${sessions.maxWaiting} runs wait in this session already (sessions.maxWaiting)`)
        : undefined
    }
    return {
      refusal,
      overload,
      close: () => {
        closed = true
      }
    }
  })
