import { generateKeyPairSync } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it, vi } from "@effect/vitest"
import { AuditLog, GatewayService } from "@postilion/gateway"
import { GatewayConfig } from "@postilion/gateway/domain/Config"
import { CallbackChannel, ConfigFile, type PostilionConfigInput } from "@postilion/server"
import { Effect, Layer } from "effect"
import { type Shape, shapeOf } from "../src/config/Shape.ts"
import { ask, pem, shownBy, sslOf } from "./Fixtures.ts"
import { answer, receiver, silence } from "./Receiver.ts"
import { as, done, eventually, type Respond, request, say, server, tempDir } from "./Support.ts"
import { connected, isMethod } from "./Wire.ts"

const failure = (config: Record<string, unknown>) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(server(config)))), ({ message }) => message)
const statusOf = (path: string, init: RequestInit) => Effect.map(request(path, init), ({ status }) => status)

const json = { "content-type": "application/json" }
const completion = JSON.stringify({
  model: "qwen3",
  choices: [{ index: 0, message: { role: "assistant", content: "from the model" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 4, completion_tokens: 3, total_tokens: 7 }
})
/** What a run comes to of an agent that is set up so. */
const ran = (agent: NonNullable<PostilionConfigInput["agents"]>[string], more: PostilionConfigInput = {}) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const { eventId } = yield* gateway.submit({ source: "state-change", payload: "look" })
    return (yield* gateway.outcome(eventId)).run
  }).pipe(Effect.provide(server({ agents: { ops: agent }, limits: { maxAttempts: 1 }, ...more })))

/** How a message fares that is sent through a channel which is set up so. */
const sent = (hook: object, isSo: (seen: { state: string; error?: string | undefined }) => boolean) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    yield* say({ text: "hello", replyTo: "hook" })
    const [one] = yield* eventually(gateway.deliveries(), ([one]) => one !== undefined && isSo(one))
    return one
  }).pipe(
    Effect.provide(
      server({ channels: { hook: { platform: "callback", url: "", secret: "s3cret", allowPrivate: true, ...hook } } })
    )
  )
const isOver = ({ error, state }: { state: string; error?: string | undefined }) =>
  error !== undefined || state === "sent" || state === "unknown"
const signedAs = (secret: string) =>
  Effect.gen(function* () {
    const { received, url } = yield* receiver()
    yield* sent({ url, secret }, ({ state }) => state === "sent")
    const { body = "", headers = {} } = received[0] ?? {}
    const at = Number(headers["webhook-timestamp"])
    const own = (key: string) => CallbackChannel.signatureOf(key, String(headers["webhook-id"]), at, body)
    return ["one", "other"].filter((key) => own(key) === headers["webhook-signature"])
  })

const signing = (checkpointEvery: number, given: "own" | "another") =>
  Effect.gen(function* () {
    const file = join(yield* tempDir, "key.pem")
    const [own, another] = [generateKeyPairSync("ed25519"), generateKeyPairSync("ed25519")]
    writeFileSync(file, own.privateKey.export({ type: "pkcs8", format: "pem" }))
    return yield* Effect.gen(function* () {
      const audit = yield* AuditLog
      // The first record is that the gateway started, the second that it was paused.
      yield* (yield* GatewayService).pause({ by: "ada" })
      const verified = yield* audit.verifyWith({ publicKey: { own, another }[given].publicKey })
      return verified.valid ? verified.signedTo : verified.problem
    }).pipe(Effect.provide(server({ audit: { signingKeyFile: file, checkpointEvery } })))
  })

/** What a program is told that takes an agent's tasks, and how the run is recorded that it answers. */
const served = (outside: NonNullable<PostilionConfigInput["outside"]>[string]) =>
  Effect.gen(function* () {
    const ann = yield* connected("token-of-ann", "agent")
    const { error, result } = yield* ann.ask("agent.serve", { agents: ["far"] })
    if (error !== undefined) return { code: error.data.code }
    const gateway = yield* GatewayService
    const { eventId } = yield* gateway.submit({ source: "state-change", payload: "look" })
    const { params } = yield* ann.until(isMethod("TASK"))
    yield* ann.ask("task.complete", { task: params?.task, text: "seen", usage: { inputTokens: 1, outputTokens: 1 } })
    const { run } = yield* gateway.outcome(eventId)
    return { agents: result?.agents, model: run?.model }
  }).pipe(
    Effect.scoped,
    Effect.provide(
      server({
        agents: { far: {} },
        outside: { far: { principals: ["ann"], ...outside } },
        tokens: { ann: { token: "token-of-ann", scopes: ["agent"] } }
      })
    )
  )

const logged = (observability: NonNullable<PostilionConfigInput["observability"]>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const log = vi.spyOn(console, "log").mockImplementation((line) => void lines.push(String(line)))
    yield* Effect.addFinalizer(() => Effect.sync(() => log.mockRestore()))
    const thinking: Respond = (task) => Effect.zipLeft(done(task), Effect.logWarning("thinking"))
    yield* Effect.provide(say({ text: "hello" }), server({ observability }, thinking))
    return lines.filter((line) => line.includes("thinking"))
  }).pipe(Effect.scoped)

/** For every key below the top, what changes when it does. Those of `webSocket` and `push` have tables of their own. */
const EFFECTS: Readonly<Record<string, Effect.Effect<void, unknown>>> = {
  "agents.*.model": Effect.gen(function* () {
    expect(yield* ran({})).toMatchObject({ model: "scripted" })
    expect((yield* ran({ model: "offline" }))?.text).toContain("offline model")
  }),
  "agents.*.baseUrl": Effect.gen(function* () {
    const [one, other] = [
      yield* receiver(answer(200, json, completion)),
      yield* receiver(answer(200, json, completion))
    ]
    expect(yield* ran({ model: "compatible/qwen3", baseUrl: other.url })).toMatchObject({ text: "from the model" })
    expect([one.received.length, other.received.length]).toEqual([0, 1])
  }).pipe(Effect.scoped),
  "agents.*.apiKey": Effect.gen(function* () {
    const { received, url } = yield* receiver(answer(200, json, completion))
    for (const apiKey of ["one", "other"]) yield* ran({ model: "compatible/qwen3", baseUrl: url, apiKey })
    expect(received.map(({ headers }) => headers.authorization)).toEqual(["Bearer one", "Bearer other"])
  }).pipe(Effect.scoped),
  "agents.*.modelTimeoutMs": Effect.gen(function* () {
    const { url } = yield* receiver(silence)
    for (const modelTimeoutMs of [50, 60]) {
      const run = yield* ran({ model: "compatible/qwen3", baseUrl: url, modelTimeoutMs })
      expect(run?.error).toContain(`did not answer within ${modelTimeoutMs}ms`)
    }
  }).pipe(Effect.scoped),
  "tokens.*": Effect.gen(function* () {
    expect(yield* statusOf("/pause", { ...as("alone"), method: "POST" })).toBe(200)
  }).pipe(Effect.provide(server({ tokens: { ada: "alone" } }))),
  "tokens.*.token": Effect.gen(function* () {
    expect(yield* statusOf("/status", as("one"))).toBe(200)
    expect(yield* statusOf("/status", as("other"))).toBe(401)
  }).pipe(Effect.provide(server({ tokens: { ada: { token: "one", scopes: ["viewer"] } } }))),
  "tokens.*.scopes": Effect.gen(function* () {
    const both = { ada: { token: "one", scopes: ["viewer"] }, bob: { token: "other", scopes: ["operator"] } } as const
    const paused = Effect.all(["one", "other"].map((token) => statusOf("/pause", { ...as(token), method: "POST" })))
    expect(yield* Effect.provide(paused, server({ tokens: both }))).toEqual([403, 200])
  }),
  "ssl.cert": Effect.gen(function* () {
    for (const name of ["server", "renewed"]) {
      expect(yield* Effect.provide(ask(), server({ ssl: sslOf(name) }))).toMatchObject({ shown: name })
    }
  }),
  "ssl.key": Effect.gen(function* () {
    const other = yield* failure({ ssl: { ...sslOf("server"), key: pem("renewed.key") } })
    expect(other).toContain("is not the key of the certificate")
  }),
  "ssl.clientCa": Effect.gen(function* () {
    const ssl = { ...sslOf("server"), clientCa: pem("ca.crt") }
    const asked = Effect.all([ask(shownBy("client")), Effect.flip(ask())])
    const [known, unknown] = yield* Effect.provide(asked, server({ ssl }))
    expect(known.status).toBe(200)
    expect(unknown).toMatch(/CERTIFICATE_REQUIRED|ECONNRESET|EPIPE/)
    expect(yield* Effect.provide(ask(), server({ ssl: sslOf("server") }))).toMatchObject({ status: 200 })
  }),
  "audit.signingKeyFile": Effect.gen(function* () {
    expect(yield* signing(2, "own")).toBe(2)
    expect(yield* signing(2, "another")).not.toBe(2)
  }).pipe(Effect.scoped),
  "audit.checkpointEvery": Effect.gen(function* () {
    expect(yield* signing(2, "own")).toBe(2)
    expect(yield* signing(1_000, "own")).toBe("no record has a signature")
  }).pipe(Effect.scoped),
  "channels.*.platform": Effect.gen(function* () {
    const { received, url } = yield* receiver()
    expect(yield* failure({ channels: { hook: { url, secret: "s", allowPrivate: true } } })).toContain(
      "platforms: callback"
    )
    yield* sent({ url, platform: "callback" }, isOver)
    expect(received).toHaveLength(1)
  }).pipe(Effect.scoped),
  "channels.*.url": Effect.gen(function* () {
    const [one, other] = [yield* receiver(), yield* receiver()]
    yield* sent({ url: other.url }, isOver)
    expect([one.received.length, other.received.length]).toEqual([0, 1])
  }).pipe(Effect.scoped),
  "channels.*.secret": Effect.gen(function* () {
    expect([yield* signedAs("one"), yield* signedAs("other")]).toEqual([["one"], ["other"]])
  }).pipe(Effect.scoped),
  "channels.*.allowPrivate": Effect.gen(function* () {
    const url = (yield* receiver()).url.replace("127.0.0.1", "localhost")
    expect(yield* sent({ url }, isOver)).toMatchObject({ state: "sent" })
    expect(yield* sent({ url, allowPrivate: false }, isOver)).toMatchObject({
      state: "failed",
      error: expect.stringContaining("private or loopback")
    })
  }).pipe(Effect.scoped),
  "channels.*.deduplicates": Effect.gen(function* () {
    const { url } = yield* receiver(silence)
    // What may have arrived is sent again only to who drops what comes twice.
    expect(yield* sent({ url, timeoutMs: 50 }, isOver)).toMatchObject({ state: "unknown" })
    expect(yield* sent({ url, timeoutMs: 50, deduplicates: true }, isOver)).toMatchObject({ state: "prepared" })
  }).pipe(Effect.scoped),
  "channels.*.timeoutMs": Effect.gen(function* () {
    const { url } = yield* receiver(silence)
    for (const timeoutMs of [50, 60]) {
      expect((yield* sent({ url, timeoutMs }, isOver))?.error).toContain(`within ${timeoutMs} ms`)
    }
  }).pipe(Effect.scoped),
  "outside.*.leaseMs": Effect.gen(function* () {
    for (const leaseMs of [20_000, 40_000]) {
      expect(yield* served({ leaseMs })).toMatchObject({ agents: [{ id: "far", leaseMs }] })
    }
  }),
  "outside.*.principals": Effect.gen(function* () {
    expect(yield* served({ principals: ["bob"] })).toEqual({ code: "forbidden" })
    expect(yield* served({ principals: ["bob", "ann"] })).toMatchObject({ agents: [{ id: "far" }] })
  }),
  "outside.*.model": Effect.gen(function* () {
    expect(yield* served({ model: "quill" })).toMatchObject({ model: "quill" })
    expect(yield* served({})).toMatchObject({ model: "unknown" })
  }),
  "observability.logLevel": Effect.gen(function* () {
    expect(yield* logged({ logLevel: "warning" })).toHaveLength(1)
    expect(yield* logged({ logLevel: "error" })).toEqual([])
  }),
  "observability.logFormat": Effect.gen(function* () {
    const [line = ""] = yield* logged({ logFormat: "json" })
    expect(JSON.parse(line)).toMatchObject({ message: "thinking" })
    expect(yield* logged({ logFormat: "logfmt" })).toEqual([expect.stringContaining("message=thinking")])
  })
}

/** The path of every value that a file may have. */
const leavesOf = (shape: Shape, path = ""): ReadonlyArray<string> => {
  switch (shape.kind) {
    case "object":
      return [...shape.keys].flatMap(([name, key]) => leavesOf(key.shape, path === "" ? name : `${path}.${name}`))
    case "record":
      return leavesOf(shape.value, `${path}.*`)
    case "list":
      return leavesOf(shape.item, path)
    case "choice":
      return shape.members.flatMap((member) => leavesOf(member, path))
    case "value":
      return [path]
  }
}

describe("N33: every key below the top has an effect", () => {
  it("and this is all of them", () => {
    const elsewhere = new Set(leavesOf(shapeOf(GatewayConfig.ast)))
    const own = leavesOf(ConfigFile.shape).filter(
      (key) => key.includes(".") && !elsewhere.has(key) && !/^(?:push|webSocket)\./.test(key)
    )
    expect(Object.keys(EFFECTS).sort()).toEqual([...new Set(own)].sort())
  })
  for (const [key, effect] of Object.entries(EFFECTS)) it.live(key, () => effect, 60_000)
})
