import type { Scope } from "./Scopes.ts"

/** Who asks, as their token proves it. */
export interface Principal {
  /** The sender of what they say and the author of what they approve. */
  readonly name: string
  readonly scopes: ReadonlyArray<Scope>
  /** Which token that was: `tok_…`, `config:<name>` of one from the configuration, `env:POSTILION_TOKEN`. */
  readonly tokenId: string
  /** Until when it counts, Unix milliseconds. */
  readonly expiresAt?: number
}
