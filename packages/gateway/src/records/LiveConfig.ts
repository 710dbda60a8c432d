import type { GatewayConfig } from "../domain/Config.ts"
import type { ConfigStatus } from "../domain/Status.ts"

/** Keys of the configuration that may change while the gateway runs. What the others say holds from a start to the next. */
export const LIVE_KEYS = [
  "agents",
  "heartbeat",
  "crons",
  "webhooks",
  "routing",
  "accessControl",
  "policies"
] as const satisfies ReadonlyArray<keyof GatewayConfig>

export type LiveKeys = Pick<GatewayConfig, (typeof LIVE_KEYS)[number]>

/** The configuration while the gateway runs. */
export class LiveConfig {
  /**
   * As it is now: what is read from it late is up to date. What is made from its live keys ahead is made anew by a load of the
   * journal, or by whoever changes it.
   */
  readonly config: GatewayConfig
  private now: GatewayConfig
  private standing: ConfigStatus

  constructor(started: GatewayConfig, at: Date) {
    this.now = started
    this.standing = { loadedAt: at, error: undefined, atRestart: [] }
    const current = (): GatewayConfig => this.now
    // Seven properties change, the others stay as they are.
    this.config = Object.defineProperties(
      { ...started },
      Object.fromEntries(LIVE_KEYS.map((key) => [key, { enumerable: true, get: () => current()[key] }]))
    )
  }
  readonly status = (): ConfigStatus => this.standing
  /** The configuration with other live keys. */
  with(keys: LiveKeys): GatewayConfig {
    return { ...this.now, ...keys }
  }
  set(next: GatewayConfig, at: Date, atRestart: ReadonlyArray<string>): void {
    this.now = next
    this.standing = { loadedAt: at, error: undefined, atRestart }
  }
  /** Another one was refused. */
  refused(error: string): void {
    this.standing = { ...this.standing, error }
  }
}
