import { describe, it } from "@effect/vitest"
import { reproduces } from "./BacktestReproduces.ts"

describe("a backtest of the policies that were live", () => {
  it.scoped(
    "decides 10,000 random events as they were decided, over ten restarts",
    () => reproduces(7, 10_000, 10, 0.1),
    600_000
  )
})
