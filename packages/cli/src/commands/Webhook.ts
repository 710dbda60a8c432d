import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Clock, Effect, Random, Redacted } from "effect"
import { load } from "../Configuration.ts"
import { failed, temporary } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { bytesOf } from "../Input.ts"
import { paint, print, printJson, say } from "../Output.ts"
import { target } from "../Reach.ts"

const path = Args.text({ name: "path" }).pipe(
  Args.withDescription("The `path` of one of the configuration's webhooks, such as /github.")
)
const delivery = {
  path,
  event: Flags.optional("event", "name", "What happened: `deployment`. Default: an example, of `github` a `push`."),
  data: Flags.optional("data", "json", "What is sent. Default: an example."),
  file: Flags.optional("file", "file", "A file with what is sent, byte for byte; - is what is piped in."),
  id: Flags.optional("id", "id", "The delivery's id; the same one is known already. Default: a new one.")
}
interface Wanted extends Pick<Flags.Connected, "config"> {
  readonly path: string
  readonly event: string | undefined
  readonly data: string | undefined
  readonly file: string | undefined
  readonly id: string | undefined
}

/** What is to be sent, as its sender would. */
const prepare = ({ config: given, data, event, file, id, path }: Wanted) =>
  Effect.gen(function* () {
    const { config } = yield* load(given)
    const webhook = config.webhooks.find((one) => one.path === path)
    if (webhook === undefined) {
      const paths = config.webhooks.map((one) => one.path).join(", ")
      return yield* failed(
        `there is no webhook "${path}" in the configuration`,
        paths === "" ? "add one under `webhooks`" : `there are: ${paths}`
      )
    }
    const { BUILT_IN } = yield* Effect.promise(() => import("@postilion/gateway/sources/webhooks/builtIn"))
    const sender = BUILT_IN.get(webhook.adapter)?.sender(webhook)
    if (sender === undefined) return yield* failed(`how the adapter "${webhook.adapter}" signs is not known here`)
    const name = event ?? sender.event
    const body =
      file !== undefined ? yield* bytesOf(file) : Buffer.from(data ?? JSON.stringify(sender.example(name)), "utf8")
    const now = yield* Clock.currentTimeMillis
    const own = id ?? `postilion-${now}-${yield* Random.nextIntBetween(0, 2 ** 31)}`
    const secret = webhook.secret === undefined ? undefined : Redacted.value(webhook.secret)
    const headers = sender.headers({ body, id: own, event: name, at: Math.floor(now / 1_000) }, secret)
    return { config, body, headers }
  })

export const webhookSign = Command.make("sign", { ...delivery, json: Flags.json, ...Flags.configured }, (wanted) =>
  Effect.gen(function* () {
    const { body, headers } = yield* prepare(wanted)
    if (wanted.json) return yield* printJson({ headers, body: body.toString("utf8") })
    yield* print(
      Object.entries(headers)
        .map(([name, value]) => `${name}: ${value}`)
        .join("\n")
    )
  })
).pipe(
  Command.withDescription(
    "Prints the headers that go with a delivery, signed with the webhook's secret; one a line, as `curl -H @file` takes them."
  )
)

const textOf = (answer: Readonly<Record<string, unknown>>, name: string): string | undefined => {
  const found = answer[name]
  return typeof found === "string" ? found : undefined
}

export const webhookSend = Command.make("send", { ...delivery, json: Flags.json, ...Flags.connected }, (wanted) =>
  Effect.gen(function* () {
    const { body, headers } = yield* prepare(wanted)
    const { url } = yield* target(wanted)
    const answer = yield* Effect.tryPromise({
      try: async (signal) => {
        const response = await fetch(`${url}/webhooks${wanted.path}`, {
          method: "POST",
          headers,
          body: new Uint8Array(body),
          signal
        })
        return { status: response.status, body: (await response.json()) as Readonly<Record<string, unknown>> }
      },
      catch: (cause) => temporary(`no gateway answers at ${url}`, "start it first, with `postilion start`", cause)
    })
    if (answer.status >= 300) {
      const refuse = answer.status === 429 || answer.status >= 500 ? temporary : failed
      return yield* refuse(`${answer.status}: ${textOf(answer.body, "detail") ?? "refused"}`)
    }
    if (wanted.json) return yield* printJson(answer.body)
    const eventId = textOf(answer.body, "eventId")
    const decision = textOf(answer.body, "decision")
    yield* say(
      `${textOf(answer.body, "status")}${decision === undefined ? "" : `, decided: ${paint("bold", decision, "err")}`}`
    )
    if (eventId !== undefined) yield* print(eventId)
  })
).pipe(
  Command.withDescription(
    "Sends the gateway a delivery as its sender would, signed with the webhook's secret, and prints the event's id."
  )
)
