import { Schema } from "effect"
import { count, described, named, text, whole } from "./internal/Fields.ts"

const MOST_AGENTS = 100
const MOST_TASKS = 1_000
const LONGEST_MESSAGE = 10_000

const Usage = Schema.Struct({ inputTokens: Schema.NonNegativeInt, outputTokens: Schema.NonNegativeInt })
const task = named("The task's, as the TASK had it.")

/** What a program that is an agent asks. */
export const agentMethods = {
  "agent.serve": {
    about:
      "Takes the tasks of agents that are configured to be outside (`outside`), from here on and for as long as the connection lasts: as TASKs. A second call takes the place of the first; with no agents, no more tasks come. Tasks one has stay one's own.",
    repeatable: true,
    params: Schema.Struct({
      agents: Schema.Array(named("An agent's.")).pipe(Schema.maxItems(MOST_AGENTS)),
      concurrency: Schema.optional(count(1, MOST_TASKS, "Tasks at a time, of all of them. Default: 1."))
    }),
    result: Schema.Struct({
      agents: Schema.Array(
        Schema.Struct({ id: Schema.String, leaseMs: whole("A task is to be renewed within so many milliseconds.") })
      )
    })
  },
  "task.renew": {
    about:
      "Says that a task goes on. One that is not renewed in time is another's: what its former holder has to say of it is refused as a `conflict`.",
    repeatable: true,
    params: Schema.Struct({
      task,
      progress: Schema.optional(
        described(
          Schema.Boolean,
          "Whether it has got on. Said once, it must be said at least every `limits.runStallMs`; else the run is interrupted. Default: false."
        )
      ),
      usage: Schema.optional(
        described(
          Usage,
          "Tokens used so far: charged if nothing more is heard of this holder. Default: what was said last."
        )
      )
    }),
    result: Schema.Struct({ leaseUntil: text("ISO 8601.") })
  },
  "task.complete": {
    about: "Answers a task. Answered once the answer is on disk.",
    repeatable: true,
    params: Schema.Struct({
      task,
      text: Schema.String,
      usage: described(Usage, "What it is charged."),
      model: Schema.optional(
        named("The model that answered, as the price table knows it. Default: the configured one.")
      )
    }),
    result: Schema.Struct({})
  },
  "task.fail": {
    about: "Says that a task came to nothing.",
    repeatable: true,
    params: Schema.Struct({
      task,
      message: Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_MESSAGE)),
      retryable: Schema.optional(described(Schema.Boolean, "Whether another attempt may succeed. Default: false.")),
      retryAfterMs: Schema.optional(whole("How long that is to wait, at least.")),
      usage: Schema.optional(described(Usage, "What it is charged all the same. Default: what was said last."))
    }),
    result: Schema.Struct({})
  }
} as const

const seq = whole("Its number among this connection's: one more than that of the one before.")

/** What such a program is told. */
export const agentEvents = {
  TASK: {
    about: "Something for an agent that one serves to do. Renew it until it is answered.",
    params: Schema.Struct({
      seq,
      task: text("Of this run and this attempt: another attempt is another task."),
      runId: Schema.String,
      attempt: whole("1 for the first."),
      agentId: Schema.String,
      instructions: text("The agent's, from the configuration."),
      maxOutputTokens: whole("Tokens its answer may have."),
      description: text("What is to be done."),
      payload: text("The event's payload as JSON."),
      history: Schema.Array(
        Schema.Struct({
          role: Schema.Literal("user", "assistant"),
          content: Schema.String,
          at: text("ISO 8601."),
          sender: Schema.optional(Schema.String)
        })
      ),
      event: Schema.Struct({
        id: Schema.String,
        source: Schema.String,
        priority: Schema.String,
        sender: Schema.optional(Schema.String),
        sessionKey: Schema.optional(Schema.String)
      }),
      leaseMs: whole("It is to be renewed within so many milliseconds."),
      leaseUntil: text("ISO 8601.")
    })
  },
  CANCEL: {
    about: "A task is one's own no more: it was ended, took too long, or was not renewed in time.",
    params: Schema.Struct({ seq, task: Schema.String, reason: Schema.String })
  }
} as const

/** A task, as its holder is told it. */
export type Task = Omit<(typeof agentEvents)["TASK"]["params"]["Type"], "seq">
