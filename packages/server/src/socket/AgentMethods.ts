import type { GatewayService } from "@postilion/gateway"
import type { Context } from "effect"
import { Effect } from "effect"
import type { OutsideAgentsShape } from "../OutsideAgents.ts"
import type { Handlers } from "./Methods.ts"
import { Refusal, refused } from "./Refusal.ts"

type AgentMethod = Extract<keyof Handlers, "agent.serve" | `task.${string}`>

/** What the methods of a program that is an agent do. */
export const make = (
  outside: OutsideAgentsShape,
  gateway: Context.Tag.Service<GatewayService>
): Pick<Handlers, AgentMethod> => ({
  "agent.serve": outside.serve,
  "task.renew": outside.renew,
  "task.complete": (connection, params) => {
    const completed = outside.complete(connection, params)
    if (completed instanceof Refusal) return completed
    // Only what is on disk is not asked for again.
    return refused(
      Effect.flatMap(gateway.outcome(completed.eventId), ({ run }) =>
        run?.state === "completed" && `${run.id}/${run.attempt}` === params.task
          ? Effect.succeed({})
          : new Refusal({ code: "conflict", message: `the run is ${run?.state}: its end was on its way already` })
      )
    )
  },
  "task.fail": outside.fail
})
