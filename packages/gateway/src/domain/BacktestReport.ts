import { Schema } from "effect"
import { reportFields } from "./BacktestFields.ts"
import { renderReport } from "./BacktestText.ts"

/** What other policies would have made of recorded events. `render()` says it in text. */
export class BacktestReport extends Schema.Class<BacktestReport>("BacktestReport")(reportFields) {
  /** A line that says what differs, and one for each kind of change and each example. */
  render(): string {
    return renderReport(this)
  }
}
