import {
  ALL_AGENTS,
  GatewayError,
  GatewayService,
  type GatewaySummary,
  KillSwitch,
  type SwitchMode,
  type SwitchOptions
} from "@postilion/gateway"
import { inputOf } from "@postilion/gateway/domain/Routing"
import { Effect } from "effect"
import * as Metrics from "../Metrics.ts"
import { Shutdown } from "../Shutdown.ts"
import { type Handlers, Text } from "./Operations.ts"
import { notFound } from "./Refusals.ts"

/** How the gateway stands, and whether it goes on. */
export const gateway = (agents: () => ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const killSwitch = yield* KillSwitch
    const metrics = yield* Metrics.make
    const shutdown = yield* Shutdown

    return {
      status: () => gateway.status(),
      budget: ({ urlParams }) => gateway.budget(urlParams),
      metrics: () => Effect.map(metrics, (text) => new Text(text, Metrics.CONTENT_TYPE)),
      agents: () => Effect.sync(() => ({ agents: agents().map((id) => ({ id, mode: killSwitch.mode(id) })) })),
      route: ({ urlParams }) => Effect.sync(() => gateway.route(inputOf(urlParams))),
      release: (_, { principal: { name: by } }) =>
        Effect.gen(function* () {
          const { held } = yield* gateway.status()
          yield* gateway.release({ by })
          return { released: held !== undefined, by }
        }),
      shutdown: (_, { principal: { name: by } }) =>
        Effect.flatMap(shutdown.request(by), (heard) =>
          heard
            ? Effect.succeed({ stopping: true, by } as const)
            : new GatewayError({
                reason: "conflict",
                message: "this program does not stop when it is asked to; end its process with SIGTERM"
              })
        )
    } satisfies Handlers<"gateway">
  })

type Verb = (options: SwitchOptions) => Effect.Effect<GatewaySummary | undefined, GatewayError>

/** Pauses, resumes, stops or terminates one agent, or all. */
export const switches = Effect.map(GatewayService, (gateway) => {
  const all =
    (mode: SwitchMode, change: Verb): Handlers<"switches">["pause"] =>
    (_, { principal: { name: by } }) =>
      Effect.map(change({ by }), (summary) => ({ agentId: ALL_AGENTS, mode, by, summary }))
  const one =
    (mode: SwitchMode, change: Verb): Handlers<"switches">["pauseAgent"] =>
    ({ path: { agentId } }, { principal: { name: by } }) =>
      // All agents are meant by naming none: whoever names one does not mean the others.
      agentId === ALL_AGENTS
        ? notFound(`there is no agent "${agentId}"`)
        : Effect.map(change({ agentId, by }), (summary) => ({ agentId, mode, by, summary }))
  const pause: Verb = (options) => Effect.as(gateway.pause(options), undefined)
  const resume: Verb = (options) => Effect.as(gateway.resume(options), undefined)
  return {
    pause: all("paused", pause),
    resume: all("running", resume),
    stop: all("stopped", gateway.stop),
    terminate: all("terminated", gateway.terminate),
    pauseAgent: one("paused", pause),
    resumeAgent: one("running", resume),
    stopAgent: one("stopped", gateway.stop),
    terminateAgent: one("terminated", gateway.terminate)
  } satisfies Handlers<"switches">
})
