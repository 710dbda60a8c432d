/**
 * What the kill switch lets through.
 *
 * - `running`: everything.
 * - `paused`: events are accepted and judged, nothing new is dispatched; what runs may finish.
 * - `stopped`: new events are refused, or kept (`policies.whenStopped`), nothing is dispatched; what runs may finish.
 * - `terminated`: as `stopped`, and what runs is interrupted.
 *
 * What runs may finish the attempt it is in; the next one, should it need one, waits.
 */
export type SwitchMode = "running" | "paused" | "stopped" | "terminated"

/** The scope that means every agent. */
export const ALL_AGENTS = "*"
