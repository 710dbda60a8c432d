import { ALL_AGENTS, GatewayService, type SwitchOptions } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect } from "effect"
import { json, orProblem } from "./HttpAnswers.ts"

export interface ControlDoor {
  /**
   * Pauses, resumes, stops or terminates one agent, or all. 200 `{ agentId, mode, by }`, with `summary`, what was done since
   * start, of a stop; 404 there is no such agent. `agentId` as it stands in the path.
   */
  readonly set: (verb: string, agentId: string | undefined, principal: string) => Effect.Effect<Problem.HttpAnswer>
  /** Lets go of a gateway that came up held. 200 `{ released, by }`; `released` is false where nothing was held. */
  readonly release: (principal: string) => Effect.Effect<Problem.HttpAnswer>
}

const decode = (part: string): string => {
  try {
    return decodeURIComponent(part)
  } catch {
    // Not an encoding of anything: then it is nobody's name.
    return part
  }
}

/** The switches, for whoever holds a token. */
export const make: Effect.Effect<ControlDoor, never, GatewayService> = Effect.map(GatewayService, (gateway) => {
  const verbs = new Map([
    ["pause", (options: SwitchOptions) => Effect.as(gateway.pause(options), { mode: "paused" })],
    ["resume", (options: SwitchOptions) => Effect.as(gateway.resume(options), { mode: "running" })],
    [
      "stop",
      (options: SwitchOptions) => Effect.map(gateway.stop(options), (summary) => ({ mode: "stopped", summary }))
    ],
    [
      "terminate",
      (options: SwitchOptions) => Effect.map(gateway.terminate(options), (summary) => ({ mode: "terminated", summary }))
    ]
  ])
  return {
    release: (by) =>
      orProblem(
        Effect.gen(function* () {
          const { held } = yield* gateway.status()
          yield* gateway.release({ by })
          return json(200, { released: held !== undefined, by })
        })
      ),
    set: (verb, part, by) => {
      const agentId = part === undefined ? ALL_AGENTS : decode(part)
      const change = verbs.get(verb)
      // All agents are meant by naming none: whoever names one does not mean the others.
      if (change === undefined || (part !== undefined && agentId === ALL_AGENTS)) {
        return Effect.succeed(Problem.problem(404, `there is nothing to ${verb} by the name of "${part}"`))
      }
      return orProblem(Effect.map(change({ agentId, by }), (done) => json(200, { agentId, ...done, by })))
    }
  }
})
