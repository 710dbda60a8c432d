import { createHmac, randomUUID } from "node:crypto"
import { createRequire } from "node:module"
import { EventBus, GatewayService, Scheduler } from "@postilion/gateway"
import { HttpAddress } from "@postilion/server"
import { Effect, Stream } from "effect"
import type { Credentials } from "./Ops.ts"

interface Example {
  readonly name: string
  readonly examples: ReadonlyArray<Record<string, unknown>>
}
/** Real payloads, as GitHub sent them: https://github.com/octokit/webhooks */
const examples = createRequire(import.meta.url)("@octokit/webhooks-examples") as ReadonlyArray<Example>
const payloadsOf = (name: string): ReadonlyArray<Record<string, unknown>> =>
  examples.find((example) => example.name === name)?.examples ?? []

/** How long one outcome is waited for. */
const PATIENCE = "20 seconds"

/** Something that was to happen, and whether it did. */
export interface Finding {
  readonly expected: string
  readonly seen: string
  readonly ok: boolean
}

interface Answer {
  readonly status: number
  readonly body: {
    readonly eventId?: string
    readonly status?: string
    readonly decision?: string
    readonly reply?: string
  }
}

export interface TourOptions {
  readonly credentials: Credentials
  /** Approve the deployment at the end. Otherwise it is left to wait for whoever watches. */
  readonly approve: boolean
  readonly say: (text: string) => Effect.Effect<void>
}

/** Sends the gateway, over its own HTTP door, what a day might bring, and checks what becomes of it. */
export const tour = ({ approve, credentials, say }: TourOptions) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const scheduler = yield* Scheduler
    const bus = yield* EventBus
    const { url } = yield* HttpAddress
    const findings: Array<Finding> = []
    const expect = (expected: string, seen: string, ok = expected === seen): void => {
      findings.push({ expected, seen, ok })
    }

    const post = (path: string, body: string, headers: Record<string, string>) =>
      Effect.promise(async (): Promise<Answer> => {
        const response = await fetch(`${url}${path}`, {
          method: "POST",
          body,
          headers: { "content-type": "application/json", ...headers }
        })
        return { status: response.status, body: (await response.json()) as Answer["body"] }
      })
    const signed = (secret: string, body: string): string =>
      `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`
    const github = (event: string, payload: unknown, delivery: string = randomUUID(), secret = credentials.github) => {
      const body = JSON.stringify(payload)
      return post("/webhooks/github", body, {
        "x-github-event": event,
        "x-github-delivery": delivery,
        "x-hub-signature-256": signed(secret, body)
      })
    }
    const bearer = { authorization: `Bearer ${credentials.token}` }
    /** What became of an event; after a while, what has become of it so far. */
    const outcomeOf = ({ eventId = "" }: { readonly eventId?: string }) =>
      gateway
        .outcome(eventId)
        .pipe(
          Effect.timeoutTo({ duration: PATIENCE, onSuccess: Effect.succeed, onTimeout: () => gateway.find(eventId) }),
          Effect.flatten
        )
    const ending = (answer: { readonly eventId?: string }) =>
      Effect.map(outcomeOf(answer), (record) =>
        record?.run === undefined ? `${record?.decision} ${record?.policy}` : record.run.state
      )

    const skippedHeartbeats = yield* bus.subscribe("HeartbeatSkipped")

    yield* say("Five changes to pull requests of one repository, in a burst. They merge into one run.")
    const delivery = randomUUID()
    const payloads = payloadsOf("pull_request").slice(0, 5)
    const burst = yield* Effect.forEach(
      payloads,
      (payload, i) => github("pull_request", payload, i === 0 ? delivery : randomUUID()),
      { concurrency: 5 }
    )
    expect(
      "5 × 202 merge",
      `${burst.length} × ${[...new Set(burst.map(({ body, status }) => `${status} ${body.decision}`))].join(", ")}`
    )

    yield* say("A forged signature. It is refused, and never becomes an event.")
    const forged = yield* github("pull_request", payloads[0], randomUUID(), "not the secret")
    yield* say(`Answered ${forged.status}.`)
    expect("401", String(forged.status))

    yield* say("GitHub delivers the first one again. It is known.")
    const again = yield* github("pull_request", payloads[0], delivery)
    expect(`duplicate of ${burst[0]?.body.eventId}`, `${again.body.status} of ${again.body.eventId}`)

    yield* say("A star. A policy of our own, added with engine.addPolicy, says that it is no work.")
    const star = yield* github("star", payloadsOf("star")[0])
    expect("skip StarsAreNoWork", yield* ending(star.body))

    yield* say("The window closes: one run for five events.")
    const records = yield* Effect.forEach(burst, ({ body }) => outcomeOf(body))
    const runs = records.filter((record) => record?.run?.state === "completed").length
    const merged = records.filter((record) => record?.state === "merged").length
    expect("1 run, 4 merged into it", `${runs} run, ${merged} merged into it`)

    yield* say("A report that may need more tokens than the day has. It is suppressed before it costs anything.")
    const body = JSON.stringify({ type: "report.requested", text: "Write the yearly report." })
    const report = yield* post("/webhooks/reports", body, {
      "x-signature": signed(credentials.reports, body),
      "x-delivery-id": randomUUID()
    })
    expect("skip CostBudget", yield* ending(report.body))

    yield* say("The health check, run by hand.")
    const [health] = scheduler.list({ includeDisabled: true }).filter(({ name }) => name === "health")
    const fired = yield* scheduler.run(health?.id ?? "")
    expect("completed", yield* ending(fired))

    yield* say("A chat message. You are on the allow-list, by your token.")
    const chat = yield* post("/chat", JSON.stringify({ text: "How is production?" }), bearer)
    expect("200 with a reply", `${chat.status} with ${chat.body.reply == null ? "no" : "a"} reply`)

    yield* say("Quiet. The heartbeat has nothing to look at, and does not wake the model.")
    yield* skippedHeartbeats.pipe(Stream.take(1), Stream.runDrain)
    expect("a heartbeat skipped", "a heartbeat skipped")

    yield* say("A deployment. It waits for a person.")
    const deploy = yield* github("deployment", payloadsOf("deployment")[0])
    expect("202 escalate", `${deploy.status} ${deploy.body.decision}`)
    const approval = (yield* gateway.approvals).find(({ eventId }) => eventId === deploy.body.eventId)
    expect("pending", approval?.state ?? "no approval")
    if (approve) {
      yield* post(`/approvals/${approval?.id}/approve`, "", bearer)
      expect("completed", yield* ending(deploy.body))
    }
    return { findings, approvalId: approval?.id }
  })
