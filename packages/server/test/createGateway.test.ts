import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { RunResult, RunTask } from "@postilion/gateway"
import { createGateway, type PromiseGateway } from "@postilion/server"
import { afterAll, afterEach, describe, expect, it } from "vitest"

// As whoever does not use Effect has it: nothing of it is imported here.

const folder = mkdtempSync(join(tmpdir(), "postilion-"))
const running = new Set<PromiseGateway>()
const made = async (...args: Parameters<typeof createGateway>) => {
  const gateway = await createGateway(...args)
  running.add(gateway)
  return gateway
}
const base = { storage: ":memory:", port: 0 }
const answer = (text: string): RunResult => ({ text, usage: { inputTokens: 1, outputTokens: 1 }, model: "mine" })

afterEach(async () => {
  for (const gateway of running) if (gateway.url !== undefined) await gateway.stop()
  running.clear()
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.sequential("createGateway", () => {
  it("runs what is submitted, tells of it, and says what it did when it stops", async () => {
    const gateway = await made({ ...base, agents: { ops: { instructions: "be brief" } } })
    const heard: Array<string> = []
    const told = new Promise<void>((resolve) => {
      gateway.subscribe("ProactiveActionCompleted", ({ agentId }) => {
        heard.push(agentId)
        resolve()
      })
    })
    const { eventId } = await gateway.submit({ source: "state-change", payload: { disk: "91%" } })
    const { run } = await gateway.outcome(eventId)
    expect(run?.text).toContain("offline model")
    await told
    expect(heard).toEqual(["ops"])
    expect(await gateway.status()).toMatchObject({ isRunning: true })
    expect((await fetch(`${gateway.url}/readyz`)).status).toBe(200)
    expect(await gateway.stop()).toEqual({ heartbeatsFired: 0, totalRuns: 1, cronChecks: 0, chatTurns: 0 })
    expect(gateway.url).toBeUndefined()
  })

  it("asks policies that answer at once, later, or fail", async () => {
    const gateway = await made(base, {
      runAgent: async ({ taskDescription }: RunTask) => answer(`did ${taskDescription}`)
    })
    await gateway.addPolicy({
      _tag: "Later",
      priority: 1,
      evaluate: async ({ metadata }) => (metadata.type === "spam" ? { action: "skip", reason: "spam" } : null)
    })
    await gateway.addPolicy({
      _tag: "AtOnce",
      priority: 2,
      evaluate: ({ metadata }) => (metadata.type === "noise" ? { action: "skip", reason: "noise" } : undefined)
    })
    await gateway.addPolicy({
      _tag: "Broken",
      priority: 3,
      evaluate: async ({ metadata }) => {
        if (metadata.type === "odd") throw new Error("cannot tell")
        return null
      }
    })
    const decided = async (type: string) => {
      const reasons = new Promise<string>((resolve) => {
        const cancel = gateway.subscribe("PolicyDecisionMade", ({ decision, policy }) => {
          cancel()
          resolve(`${policy}: ${decision}`)
        })
      })
      await gateway.submit({ source: "webhook", payload: "look", metadata: { type } })
      return reasons
    }
    expect(await decided("spam")).toBe("Later: skip")
    expect(await decided("noise")).toBe("AtOnce: skip")
    expect(await decided("odd")).toBe("Broken: escalate")
    expect(await decided("news")).toBe("default: execute")
    await expect(gateway.addPolicy({ _tag: "Broken", priority: 1, evaluate: () => null })).rejects.toMatchObject({
      _tag: "GatewayConfigError"
    })
  })

  it("starts again with the policies and subscriptions it had", async () => {
    const gateway = await made(
      { ...base, storage: join(folder, "ops.sqlite") },
      { runAgent: async () => answer("yes") }
    )
    const heard: Array<string> = []
    gateway.subscribe("PolicyDecisionMade", ({ policy }) => void heard.push(String(policy)))
    await gateway.addPolicy({ _tag: "No", priority: 1, evaluate: () => ({ action: "skip", reason: "no" }) })
    await gateway.stop()
    await expect(gateway.submit({ source: "webhook", payload: 1 })).rejects.toMatchObject({
      _tag: "GatewayError",
      reason: "stopped"
    })
    await expect(gateway.stop()).rejects.toMatchObject({ reason: "stopped" })
    await Promise.all([gateway.start(), gateway.start()])
    await gateway.start()
    const { eventId } = await gateway.submit({ source: "webhook", payload: 1 })
    expect(await gateway.outcome(eventId)).toMatchObject({ policy: "No", decision: "skip" })
    await gateway.stop()
    expect(heard).toEqual(["No"])
  })

  it("takes a file, and follows it", async () => {
    const file = join(folder, "gateway.yaml")
    writeFileSync(file, "storage: ':memory:'\nport: 0\nagents: { ops: { instructions: a } }\n")
    const gateway = await made({ configFile: file }, { runAgent: async ({ agent }) => answer(agent.instructions) })
    const asked = async () => {
      const { eventId } = await gateway.submit({ source: "state-change", payload: 1 })
      return (await gateway.outcome(eventId)).run?.text
    }
    expect(await asked()).toBe("a")
    const { config } = await gateway.status()
    writeFileSync(file, "storage: ':memory:'\nport: 0\nagents: { ops: { instructions: b } }\n")
    while ((await gateway.status()).config.loadedAt.getTime() === config.loadedAt.getTime()) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(await asked()).toBe("b")
  })

  it("rejects with what is wrong, and leaves nothing behind", async () => {
    await expect(createGateway({ port: 70_000 })).rejects.toMatchObject({ _tag: "GatewayConfigError", path: "port" })
    const file = join(folder, "broken.yaml")
    writeFileSync(file, "prot: 1\n")
    await expect(createGateway({ configFile: file })).rejects.toMatchObject({
      _tag: "GatewayConfigError",
      problems: [{ line: 1, column: 1, path: "prot" }]
    })
    const gateway = await made(base, { runAgent: () => Promise.reject(new Error("no model today")) })
    // As whoever writes JavaScript may: nobody would ever call the handler.
    expect(() => gateway.subscribe("PolicyDecisonMade" as "PolicyDecisionMade", () => {})).toThrow(
      'did you mean "PolicyDecisionMade"?'
    )
    const { eventId } = await gateway.submit({ source: "state-change", payload: 1 })
    expect(await gateway.outcome(eventId)).toMatchObject({ run: { state: "failed", error: "no model today" } })
    await expect(gateway.submit({ source: "webhook", payload: 1, agentId: "nobody" })).rejects.toMatchObject({
      _tag: "GatewayError",
      reason: "invalid-input"
    })
    await expect(createGateway({ ...base, port: Number(new URL(gateway.url ?? "").port) })).rejects.toMatchObject({
      _tag: "ChannelConnectionError"
    })
  })
})
