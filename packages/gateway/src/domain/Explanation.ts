import { Schema } from "effect"
import { fields } from "./ExplanationFields.ts"
import { render } from "./ExplanationText.ts"

/**
 * All there is to say of an event: every decision with each policy's answer and the state it saw, who approved, what ran, what
 * it cost, what was sent, and the chain of causes it stands in. `render()` says it in text.
 */
export class Explanation extends Schema.Class<Explanation>("Explanation")(fields) {
  /** The explanation as lines of text, for a terminal. */
  render(): string {
    return render(this)
  }
}
