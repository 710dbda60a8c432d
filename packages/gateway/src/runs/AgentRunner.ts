import { Context, type Effect, Layer, type Scope } from "effect"
import type { AgentRunError } from "../domain/Errors.ts"
import type { RunResult, RunTask } from "../domain/Run.ts"

export interface AgentRunnerShape {
  /** Does the task: calls the model. Interrupted when the run times out or the kill switch terminates it. */
  readonly run: (task: RunTask) => Effect.Effect<RunResult, AgentRunError>
  /**
   * The most tokens `run` could use: prompt estimate plus maximum output. Pure and quick; called before every decision.
   * `historyCharacters` stands for a history that is not loaded yet.
   */
  readonly estimate: (task: Omit<RunTask, "history">, historyCharacters: number) => number
  /**
   * The model the agent is run with, as the price table is to know it: budgets in dollars reserve by it. Pure and quick. Without
   * it, what a run may cost is not known.
   */
  readonly model?: (agentId: string) => string | undefined
  /**
   * How many runs of this agent it can have at a time, as it stands now. Pure and quick. What is more waits for its turn, and a
   * run that waits has cost no attempt. Default: any number.
   */
  readonly capacity?: (agentId: string) => number
  /** Calls `listener` when it may have more, until the scope closes. */
  readonly onCapacity?: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
}

/** The port to whatever does the thinking. `@postilion/agents` gives one on `@effect/ai`. */
export class AgentRunner extends Context.Tag("@postilion/gateway/AgentRunner")<AgentRunner, AgentRunnerShape>() {}

/**
 * Tokens that `characters` of text make at most, near enough: English text has about four characters a token, JSON and
 * code about three.
 */
export const estimateTokens = (characters: number): number => Math.ceil(characters / 3)

/** Estimates by the length of everything the model is shown, plus the agent's `maxOutputTokens`. */
export const estimateTask: AgentRunnerShape["estimate"] = (
  { agent, payloadText, taskDescription },
  historyCharacters
) =>
  estimateTokens(agent.instructions.length + taskDescription.length + payloadText.length + historyCharacters) +
  agent.maxOutputTokens

/** A runner that answers with what `respond` returns: for tests, and for agents that need no model. */
export const layerScripted = (
  respond: (task: RunTask) => Effect.Effect<RunResult, AgentRunError>,
  estimate: AgentRunnerShape["estimate"] = estimateTask,
  model = "scripted"
): Layer.Layer<AgentRunner> => Layer.succeed(AgentRunner, { run: respond, estimate, model: () => model })
