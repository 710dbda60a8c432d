import { Schema } from "effect"
import { cronNameOf, type GatewayConfig, heartbeatsOf } from "../domain/Config.ts"
import type { ReplyRoute } from "../domain/Delivery.ts"
import { Schedule } from "../domain/Schedule.ts"
import type { JobRow } from "../records/Tables.ts"

/** A route as a job's row holds it. */
export const encodeRoute = (route: ReplyRoute | undefined): string | null =>
  route === undefined ? null : JSON.stringify({ channel: route.channel, target: route.target })

export const encodeSchedule = Schema.encodeSync(Schema.parseJson(Schedule))

/** The jobs the configuration asks for. Their ids follow from it, so that a restart finds them again. */
export const configured = (
  config: GatewayConfig
): ReadonlyArray<Omit<JobRow, "created_at" | "last_at" | "next_at"> & { readonly schedule: string }> => {
  const [defaultAgent = ""] = Object.keys(config.agents)
  const heartbeats = heartbeatsOf(config).map((heartbeat, i) => {
    const agentId = heartbeat.agentId ?? defaultAgent
    const { activeHours, instruction, maxConsecutiveSkips } = heartbeat
    return {
      id: `job_heartbeat-${i + 1}-${agentId}`,
      name: `heartbeat ${agentId}`,
      origin: "config" as const,
      source: "heartbeat" as const,
      schedule: encodeSchedule({ kind: "every", everyMs: heartbeat.intervalMs }),
      agent_id: agentId,
      instruction,
      priority: "normal" as const,
      metadata: JSON.stringify({
        heartbeatPolicy: heartbeat.policy ?? config.policies.heartbeatPolicy,
        maxConsecutiveSkips,
        activeHours
      }),
      enabled: 1,
      delete_after_run: 0,
      catch_up: "skip" as const,
      deliver_to: encodeRoute(heartbeat.deliverTo)
    }
  })
  const crons = config.crons.map((cron, i) => {
    const name = cronNameOf(cron, i)
    return {
      id: `job_cron-${name}`,
      name,
      origin: "config" as const,
      source: "cron" as const,
      schedule: encodeSchedule({ kind: "cron", expression: cron.schedule, timezone: cron.timezone ?? config.timezone }),
      agent_id: cron.agentId ?? defaultAgent,
      instruction: cron.instruction,
      priority: cron.priority,
      metadata: "{}",
      enabled: cron.enabled ? 1 : 0,
      delete_after_run: 0,
      catch_up: "once" as const,
      deliver_to: encodeRoute(cron.deliverTo)
    }
  })
  return [...heartbeats, ...crons]
}
