import { type Check, ENDED } from "../Books.ts"

const DAY = 86_400_000

/** What the server says it has used is what the file's runs of that day used. */
export const checkLedger: Check = ({ ledger, rows }) => {
  const today = rows.runs.filter(({ created_at }) => created_at >= ledger.resetsAt - DAY)
  const sum = today
    .filter(({ state }) => ENDED.has(state))
    .reduce((total, { input_tokens, output_tokens }) => total + input_tokens + output_tokens, 0)
  return [
    ...(sum === ledger.used ? [] : [`the ledger says ${ledger.used} tokens were used; the runs say ${sum}`]),
    ...(ledger.reserved === 0 ? [] : [`${ledger.reserved} tokens are reserved, and nothing runs`])
  ]
}
