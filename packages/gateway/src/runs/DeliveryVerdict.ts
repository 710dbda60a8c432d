import { Cause, Exit } from "effect"
import type { ChannelSendError } from "../domain/Errors.ts"
import type { DeliveryReceipt } from "./Channel.ts"

/** What becomes of a delivery after an attempt. */
export type DeliveryVerdict =
  | { readonly state: "sent"; readonly reference: string | null }
  /** Tried again after `delay` milliseconds. */
  | { readonly state: "prepared"; readonly error: string; readonly delay: number }
  | { readonly state: "unknown"; readonly error: string }
  | { readonly state: "failed"; readonly error: string }

export interface Attempted {
  /** 1 for the first. */
  readonly attempt: number
  readonly maxAttempts: number
  readonly deduplicates: boolean
  /** From 0 to 1, by chance. */
  readonly jitter: number
}

const BASE = 5_000
const MOST = 900_000
/** However long a platform asks us to wait, a person who looks should see something happen. */
export const MOST_ASKED = 3_600_000
const LONGEST_ERROR = 1_000

/**
 * Milliseconds until the next attempt: 5 seconds, doubled with each attempt up to 15 minutes, less up to half of it by
 * chance, so that what failed together does not come back together. At least what the platform asked for, up to an hour.
 */
export const delayOf = (attempt: number, jitter: number, retryAfterMillis = 0): number => {
  const backoff = Math.min(BASE * 2 ** (attempt - 1), MOST) * (1 - jitter / 2)
  const asked = Number.isFinite(retryAfterMillis) ? Math.min(retryAfterMillis, MOST_ASKED) : 0
  return Math.ceil(Math.max(backoff, asked))
}

/** A failure that is the channel's word; anything else that went wrong proves nothing. */
const saidOf = (cause: Cause.Cause<ChannelSendError>): { readonly said?: ChannelSendError; readonly error: string } => {
  const failure = Cause.failureOption(cause)
  if (failure._tag === "Some") return { said: failure.value, error: failure.value.message }
  if (Cause.isInterrupted(cause)) return { error: "cut off while it was being sent" }
  const defect = Cause.squash(cause)
  return { error: `the channel died: ${defect instanceof Error ? defect.message : String(defect)}` }
}

/** What an attempt comes to. Nothing that may have been sent is sent again, unless the platform deduplicates. */
export const verdictOf = (
  exit: Exit.Exit<DeliveryReceipt, ChannelSendError>,
  { attempt, deduplicates, jitter, maxAttempts }: Attempted
): DeliveryVerdict => {
  if (Exit.isSuccess(exit)) {
    const reference: unknown = exit.value?.reference
    return { state: "sent", reference: typeof reference === "string" ? reference.slice(0, LONGEST_ERROR) : null }
  }
  const { error: whole, said } = saidOf(exit.cause)
  const error = String(whole).slice(0, LONGEST_ERROR)
  if (said?.outcome === "rejected") return { state: "failed", error }
  const proved = said?.outcome === "not-sent"
  if (!proved && !deduplicates) return { state: "unknown", error }
  if (attempt < maxAttempts) {
    return { state: "prepared", error, delay: delayOf(attempt, jitter, said?.retryAfterMillis) }
  }
  const given = `${error} (attempt ${attempt} of limits.maxDeliveryAttempts)`
  return proved ? { state: "failed", error: given } : { state: "unknown", error: given }
}
