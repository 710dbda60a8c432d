import { Cause, Exit, Option } from "effect"
import type { AgentRunError } from "../domain/Errors.ts"
import type { RunResult, Usage } from "../domain/Run.ts"

/** What an attempt came to. */
export type RunExit = Exit.Exit<RunResult, AgentRunError>

/** What is recorded of an attempt that did not succeed. */
export const messageOf = (cause: Cause.Cause<AgentRunError>): string => {
  if (Cause.isInterruptedOnly(cause)) return "terminated by the kill switch"
  const failure = Cause.squash(cause)
  return failure instanceof Error ? failure.message : String(failure)
}

export const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0 }

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0
const isUsage = (usage: Usage): boolean => isCount(usage?.inputTokens) && isCount(usage?.outputTokens)
/** What an attempt is charged: what it used, also where it failed. */
export const usageOf = (exit: RunExit): Usage => {
  const usage = Exit.isSuccess(exit) ? exit.value.usage : Option.getOrUndefined(Cause.failureOption(exit.cause))?.usage
  return usage !== undefined && isUsage(usage) ? usage : NO_USAGE
}
export const plus = (one: Usage, other: Usage): Usage => ({
  inputTokens: one.inputTokens + other.inputTokens,
  outputTokens: one.outputTokens + other.outputTokens
})

/** Whether what a runner returned can be recorded: what cannot would be tried to be written for ever. */
export const isResult = (result: RunResult): boolean =>
  typeof result?.text === "string" && typeof result.model === "string" && isUsage(result.usage)
