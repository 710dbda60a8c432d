import { Context, type Effect } from "effect"
import type { GatewayError } from "../domain/Errors.ts"
import type { RawInput } from "../domain/GatewayEvent.ts"
import type { Action } from "../domain/PolicyDecision.ts"

/** What whoever hands in an event gets once it is committed. */
export interface Receipt {
  readonly eventId: string
  /** The input was already known under its idempotency key; `eventId` is the first one's. */
  readonly duplicate: boolean
  /** The first decision, when the policies answered at once. */
  readonly decision: Action | undefined
}

export interface AdmissionShape {
  readonly submit: (input: RawInput) => Effect.Effect<Receipt, GatewayError>
}
export class Admission extends Context.Tag("@postilion/gateway/Admission")<Admission, AdmissionShape>() {}
