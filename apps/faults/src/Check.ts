import { checkChain, checkExport, recordsOf } from "./AuditChain.ts"
import type { Books } from "./Books.ts"
import { checkApprovals } from "./checks/Approvals.ts"
import { checkDecisions } from "./checks/Decisions.ts"
import { checkLedger } from "./checks/Ledger.ts"
import { checkPromises } from "./checks/Promises.ts"
import { checkRuns } from "./checks/Runs.ts"
import { checkSessions } from "./checks/Sessions.ts"
import { checkSwitches } from "./checks/Switches.ts"

/** Everything that is wrong with the books; nothing, when they are in order. */
export const check = (books: Books): ReadonlyArray<string> => {
  const { exported, rows } = books
  const damage = rows.integrity === "ok" ? [] : [`integrity_check: ${rows.integrity}`]
  const records = recordsOf(rows.audit)
  const checks = [checkPromises, checkDecisions, checkRuns, checkApprovals, checkSessions, checkLedger, checkSwitches]
  return [
    ...damage,
    ...checkChain(rows.audit),
    ...checkExport(exported, rows.audit),
    ...checks.flatMap((one) => one(books, records))
  ]
}
