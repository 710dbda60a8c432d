import type { BudgetRange, DeliveryFilter } from "@postilion/gateway"
import { DeliveryState } from "@postilion/gateway/domain/Delivery"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Schema } from "effect"

const Filter = Schema.Struct({
  state: Schema.optional(DeliveryState),
  after: Schema.optional(Schema.NumberFromString.pipe(Schema.nonNegative(), Schema.int())),
  limit: Schema.optional(Schema.NumberFromString.pipe(Schema.between(1, 1_000), Schema.int()))
})
const decodeFilter = Schema.decodeUnknown(Filter, { onExcessProperty: "error" })
const FILTER = `state (${DeliveryState.literals.join(", ")}), after (a delivery's seq) and limit (1 to 1000)`

/** Which deliveries a query asks for. */
export const filterOf = (query: string): Effect.Effect<DeliveryFilter, Problem.HttpAnswer> =>
  Effect.mapBoth(decodeFilter(Object.fromEntries(new URLSearchParams(query))), {
    onSuccess: ({ after, limit, state }) => ({
      ...(after === undefined ? {} : { after }),
      ...(limit === undefined ? {} : { limit }),
      ...(state === undefined ? {} : { state })
    }),
    onFailure: () => Problem.problem(422, `deliveries can be asked for by ${FILTER}; got "${query}"`)
  })

const decodeRange = Schema.decodeUnknown(
  Schema.Struct({ from: Schema.optional(Schema.String), to: Schema.optional(Schema.String) }),
  { onExcessProperty: "error" }
)
/** Which days a query asks for. */
export const rangeOf = (query: string): Effect.Effect<BudgetRange, Problem.HttpAnswer> =>
  Effect.mapError(decodeRange(Object.fromEntries(new URLSearchParams(query))), () =>
    Problem.problem(422, `the budget can be asked for by from and to, days written as 2026-01-31; got "${query}"`)
  )
