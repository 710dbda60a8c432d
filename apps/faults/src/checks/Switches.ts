import type { Check } from "../Books.ts"

/**
 * Every start, switch and configuration that was told is recorded, the switches stand as recorded, and nothing began past them.
 */
export const checkSwitches: Check = ({ rows, witness }, records) => {
  const found: Array<string> = []
  const modes = new Map<unknown, unknown>()
  /** Whether the start that comes is held, and whether the gateway is. */
  let holds = false
  let held = false
  let starts = 0
  let thrown = 0
  let reloads = 0
  const seen = new Set<string | null>()
  for (const { data, eventId, kind, seq } of records) {
    switch (kind) {
      case "gateway.held":
        holds = true
        break
      case "gateway.started":
        held = holds
        holds = false
        starts += 1
        break
      case "config.changed":
        reloads += 1
        break
      case "gateway.released":
        held = false
        break
      case "switch.changed":
        modes.set(data.scope, data.mode)
        thrown += 1
        break
      case "run.started":
        if (held) found.push(`record ${seq}: run ${data.runId} was begun while the gateway was held`)
        for (const scope of ["*", data.agentId]) {
          const mode = modes.get(scope) ?? "running"
          if (mode !== "running") found.push(`record ${seq}: run ${data.runId} was begun while ${scope} was ${mode}`)
        }
        break
      case "event.decided":
        if (held && !seen.has(eventId) && (data.source === "cron" || data.source === "heartbeat")) {
          found.push(`record ${seq}: a ${data.source} fired while the gateway was held`)
        }
    }
    seen.add(eventId)
  }
  if (starts < witness.starts) found.push(`${witness.starts} starts, of which ${starts} are recorded`)
  if (thrown < witness.switches) found.push(`${witness.switches} switches, recorded: ${thrown}`)
  if (reloads < witness.reloads) found.push(`${witness.reloads} configurations, of which ${reloads} are recorded`)
  for (const { mode, scope } of rows.switches) {
    if (modes.get(scope) !== mode) found.push(`${scope} is ${mode}; recorded: ${String(modes.get(scope))}`)
  }
  return found
}
