import { describe, expect, it } from "@effect/vitest"
import { ChannelSendError, type SendOutcome } from "@postilion/gateway/domain/Errors"
import { delayOf, verdictOf } from "@postilion/gateway/runs/DeliveryVerdict"
import { Exit, FastCheck } from "effect"

const chance = FastCheck.double({ min: 0, max: 1, noNaN: true })
const failure = (outcome: SendOutcome, retryAfterMillis = 0) =>
  Exit.fail(new ChannelSendError({ channel: "c", outcome, message: "no", retryAfterMillis }))

describe("the time until the next attempt", () => {
  it("doubles from 5 seconds to 15 minutes, less up to half by chance", () => {
    expect([1, 2, 3, 8, 9, 50].map((attempt) => delayOf(attempt, 0))).toEqual([
      5_000, 10_000, 20_000, 640_000, 900_000, 900_000
    ])
    FastCheck.assert(
      FastCheck.property(FastCheck.integer({ min: 1, max: 2_000 }), chance, (attempt, jitter) => {
        const most = delayOf(attempt, 0)
        const delay = delayOf(attempt, jitter)
        expect(delay).toBeGreaterThanOrEqual(most / 2)
        expect(delay).toBeLessThanOrEqual(most)
      })
    )
  })

  it("is what the platform asked for, where that is longer, and an hour at most", () => {
    expect(delayOf(1, 0, 60_000)).toBe(60_000)
    expect(delayOf(1, 0, 1)).toBe(5_000)
    expect(delayOf(1, 0, 1e12)).toBe(3_600_000)
    expect(delayOf(1, 0, Number.NaN)).toBe(5_000)
    expect(delayOf(1, 0, -1)).toBe(5_000)
  })
})

describe("the verdict on an attempt", () => {
  it("N14: never sends again what was sent, was rejected, or may have been sent and is not deduplicated", () => {
    const outcome = FastCheck.constantFrom<SendOutcome>("not-sent", "unknown", "rejected")
    FastCheck.assert(
      FastCheck.property(
        FastCheck.option(outcome),
        FastCheck.boolean(),
        FastCheck.integer({ min: 1, max: 9 }),
        chance,
        (outcome, deduplicates, attempt, jitter) => {
          const exit = outcome === null ? Exit.succeed({}) : failure(outcome)
          const { state } = verdictOf(exit, { attempt, deduplicates, jitter, maxAttempts: 8 })
          if (outcome === null) expect(state).toBe("sent")
          else if (outcome === "rejected") expect(state).toBe("failed")
          else if (outcome === "unknown" && !deduplicates) expect(state).toBe("unknown")
          else if (attempt < 8) expect(state).toBe("prepared")
          else expect(state).toBe(outcome === "unknown" ? "unknown" : "failed")
        }
      )
    )
  })

  it("records what can be recorded, however much a channel says", () => {
    const attempted = { attempt: 1, deduplicates: false, jitter: 0, maxAttempts: 8 }
    const long = verdictOf(Exit.succeed({ reference: "x".repeat(5_000) }), attempted)
    expect(long).toEqual({ state: "sent", reference: "x".repeat(1_000) })
    expect(verdictOf(Exit.die("boom"), attempted)).toEqual({ state: "unknown", error: "the channel died: boom" })
  })
})
