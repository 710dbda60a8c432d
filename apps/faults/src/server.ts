// The server under fault: `Postilion.layer` as anyone would start it, in a process of its own. What is not Postilion's here is
// how the harness talks to it.

import { writeFileSync, writeSync } from "node:fs"
import { NodeRuntime } from "@effect/platform-node"
import { OfflineRunner } from "@postilion/agents"
import {
  AgentRunError,
  AgentRunner,
  AuditLog,
  decodeConfig,
  type GatewayConfigInput,
  GatewayService,
  Reconfiguration
} from "@postilion/gateway"
import { HttpAddress, Postilion, type PostilionConfigInput } from "@postilion/server"
import { Chunk, Effect, Layer, Random, Runtime, Stream } from "effect"
import {
  APPROVAL_TTL,
  DRAIN_DEADLINE,
  PRINCIPALS,
  type Request,
  SECRET,
  type ServerOptions,
  TELLING,
  type Told
} from "./Protocol.ts"
import { setShift } from "./ShiftedClock.ts"

// A file size limit is one of the faults: without a listener, reaching it ends the process, where a full disk would not.
process.on("SIGXFSZ", () => {})

const tell = (told: Told): void => void writeSync(TELLING, `${JSON.stringify(told)}\n`)

const { quiet, rules, storage } = JSON.parse(process.argv[2] ?? "") as ServerOptions

const sources: Pick<PostilionConfigInput, "heartbeat" | "crons"> = quiet
  ? {}
  : {
      heartbeat: { agentId: "ops", intervalMs: 150, maxConsecutiveSkips: 3 },
      crons: [
        { name: "minutely", schedule: "* * * * *", instruction: "Look around.", agentId: "ops" },
        { name: "hourly", schedule: "0 * * * *", instruction: "Look back.", agentId: "chat" }
      ]
    }

const config: PostilionConfigInput = {
  ...sources,
  storage,
  port: 0,
  tokens: PRINCIPALS,
  drainDeadlineMs: DRAIN_DEADLINE,
  agents: { ops: { maxOutputTokens: 100 }, chat: { maxOutputTokens: 100 } },
  webhooks: [
    { path: "/github", adapter: "github", secret: SECRET, agentId: "ops", maxPerMinute: 1_000_000 },
    { path: "/notes", adapter: "generic", unsigned: true, agentId: "ops", maxPerMinute: 1_000_000 }
  ],
  accessControl: { allowedSenders: Object.keys(PRINCIPALS) },
  policies: {
    dailyTokenBudget: rules.dailyTokenBudget,
    maxActionsPerHour: "unlimited",
    mergeWindowMs: 150,
    requireApprovalFor: ["deploy"],
    approvers: rules.approvers,
    whenStopped: rules.whenStopped
  },
  sessions: { whenBusy: rules.whenBusy, collectMs: 20, maxWaiting: 2, overflow: rules.overflow },
  limits: {
    maxAttempts: rules.maxAttempts,
    onCrash: rules.onCrash,
    maxUncleanStarts: rules.maxUncleanStarts,
    approvalTtlMs: APPROVAL_TTL
  }
}

/** What stays when the configuration changes: with other instructions people would be asked anew, which the books do not know. */
const { accessControl, policies, webhooks } = config
const kept: GatewayConfigInput = {
  accessControl,
  agents: { ops: { maxOutputTokens: 100 }, chat: { maxOutputTokens: 100 } }
}
/** What it changes to, and back from: other jobs, and of those that stay another time. */
const configurations: readonly [GatewayConfigInput, GatewayConfigInput] = [
  {
    ...kept,
    webhooks: webhooks?.map((webhook) => ({ ...webhook, maxPerMinute: 500_000 })),
    policies: { ...policies, mergeWindowMs: 50, circuitBreaker: { maxFailures: 3, cooldownMs: 50 } },
    ...(quiet
      ? {}
      : {
          heartbeat: { agentId: "ops", intervalMs: 100, maxConsecutiveSkips: 2 },
          crons: [
            { name: "minutely", schedule: "*/2 * * * *", instruction: "Look around.", agentId: "ops" },
            { name: "quarterly", schedule: "*/15 * * * *", instruction: "Look aside.", agentId: "chat" }
          ]
        })
  },
  { ...kept, ...sources, policies, webhooks }
]
let reloads = 0

const LONGEST_RUN = 30

/** The offline agent, taking its time, failing now and then, and seen from outside whenever it is called. */
const runner = Layer.effect(
  AgentRunner,
  Effect.map(AgentRunner, ({ estimate, run }) => ({
    estimate,
    run: (task) =>
      Effect.gen(function* () {
        tell({ call: { runId: task.runId, eventId: task.event.id, attempt: task.attempt } })
        yield* Effect.sleep(yield* Random.nextIntBetween(0, LONGEST_RUN))
        const luck = yield* Random.next
        if (luck < 0.02) return yield* new AgentRunError({ message: "no luck", retryable: false })
        if (luck < 0.05) {
          const usage = { inputTokens: 3, outputTokens: 2 }
          return yield* new AgentRunError({ message: "try again", retryable: true, retryAfterMillis: 20, usage })
        }
        return yield* run(task)
      })
  }))
).pipe(Layer.provide(OfflineRunner.layer()))

const answer = (request: Request) =>
  Effect.gen(function* () {
    switch (request.ask) {
      case "clock":
        return setShift(request.shift)
      case "pause":
      case "stop":
      case "terminate":
      case "resume":
      case "release":
        return void (yield* (yield* GatewayService)[request.ask]({ by: "harness" }))
      case "reload": {
        const next = yield* decodeConfig(configurations[reloads++ % 2])
        return yield* (yield* Reconfiguration).change(next, { changes: ["some"], atRestart: [], by: "harness" })
      }
      case "export": {
        const lines = yield* Stream.runCollect((yield* AuditLog).export)
        writeFileSync(
          request.file,
          Chunk.join(
            Chunk.map(lines, (line) => `${line}\n`),
            ""
          )
        )
      }
    }
  }).pipe(
    Effect.matchCause({
      onSuccess: () => tell({ answered: request.id }),
      onFailure: (cause) => tell({ answered: request.id, error: cause.toString() })
    })
  )

Effect.gen(function* () {
  const run = Runtime.runFork(yield* Effect.runtime<GatewayService | AuditLog | Reconfiguration>())
  process.on("message", (request: Request) => void run(answer(request)))
  // The harness may ask, but its channel does not keep the server from ending.
  process.channel?.unref()
  tell({ ready: (yield* HttpAddress).url })
  yield* Effect.never
}).pipe(Effect.provide(Postilion.layer(config)), Effect.provide(runner), NodeRuntime.runMain)
