import { type ChildProcess, spawn } from "node:child_process"
import { randomInt } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { AuditLog, Store } from "@postilion/gateway"
import * as AuditLogModule from "@postilion/gateway/records/AuditLog"
import * as EventBus from "@postilion/gateway/records/EventBus"
import * as Journal from "@postilion/gateway/records/Journal"
import { SqliteStorage } from "@postilion/server"
import { Effect, Layer } from "effect"
import { afterAll, describe, expect, it } from "vitest"

const ROUNDS = 8
const SENDERS = 8
const LONGEST_LIFE = 1_500

const folder = mkdtempSync(join(tmpdir(), "postilion-kill-"))
const file = join(folder, "demo.sqlite")
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Demo {
  readonly child: ChildProcess
  readonly url: string
  /** The rest of what it prints, up to a line that matches. */
  readonly line: (pattern: RegExp) => Promise<RegExpExecArray>
  readonly ended: Promise<number | null>
}

const start = async (): Promise<Demo> => {
  const main = join(import.meta.dirname, "../src/main.ts")
  const child = spawn(
    process.execPath,
    ["--conditions=@postilion/source", "--import", "tsx", main, "--port", "0", "--storage", file],
    { stdio: ["ignore", "pipe", "inherit"] }
  )
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve))
  let printed = ""
  let look = (): void => {}
  child.stdout.on("data", (chunk: Buffer) => {
    printed += chunk.toString()
    look()
  })
  const line = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      look = () => {
        const match = pattern.exec(printed)
        if (match !== null) resolve(match)
      }
      look()
      void ended.then((code) =>
        reject(new Error(`the demo ended with ${code} before it printed ${pattern}:\n${printed}`))
      )
    })
  const [, url = ""] = await line(/at (http:\S+),/)
  return { child, url, line, ended }
}

/** What was answered 202, by delivery id. */
const acknowledged = new Map<string, string>()

const post = async (
  url: string,
  delivery: string
): Promise<{ readonly eventId: string; readonly status: string } | undefined> => {
  try {
    const response = await fetch(`${url}/webhooks/notes`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-delivery-id": delivery },
      body: JSON.stringify({ type: "note", text: `note ${delivery}` })
    })
    return response.status === 202 ? ((await response.json()) as { eventId: string; status: string }) : undefined
  } catch {
    // The connection ended with the process: whether this one was kept is for the records to say.
    return undefined
  }
}

const load = async ({ child, url }: Demo, round: number): Promise<void> => {
  const send = async (sender: number): Promise<void> => {
    for (let n = 0; child.exitCode === null && !child.killed; n++) {
      const delivery = `${round}-${sender}-${n}`
      const answer = await post(url, delivery)
      if (answer !== undefined) acknowledged.set(delivery, answer.eventId)
    }
  }
  await Promise.all(Array.from({ length: SENDERS }, (_, sender) => send(sender)))
}

describe("the demo, killed", () => {
  it(`${ROUNDS} times with SIGKILL during its tour loses nothing it accepted and decides nothing twice`, {
    timeout: 240_000
  }, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const demo = await start()
      // What an earlier round acknowledged is known, with the id it was given then.
      for (const [delivery, eventId] of [...acknowledged].slice(-2)) {
        expect(await post(demo.url, delivery)).toMatchObject({ status: "duplicate", eventId })
      }
      setTimeout(() => demo.child.kill("SIGKILL"), randomInt(LONGEST_LIFE))
      await load(demo, round)
      await demo.ended
    }
    expect(acknowledged.size).toBeGreaterThan(ROUNDS)

    // Once more, to the end: whatever was cut off is finished.
    const demo = await start()
    const [, token = ""] = await demo.line(/token, .*: (\w+)/)
    const isBusy = async (): Promise<boolean> => {
      const response = await fetch(`${demo.url}/status`, { headers: { authorization: `Bearer ${token}` } })
      const { pending } = (await response.json()) as {
        pending: { running: number; waiting: number; undecided: number }
      }
      return pending.running + pending.waiting + pending.undecided > 0
    }
    while (await isBusy()) await new Promise((resolve) => setImmediate(resolve))
    demo.child.kill("SIGTERM")
    expect(await demo.ended).toBe(0)

    const books = Effect.gen(function* () {
      const store = yield* Store
      const audit = yield* AuditLog
      return {
        events: yield* store.find("events", {}),
        runs: yield* store.find("runs", {}),
        decisions: yield* store.find("audit", { where: { kind: "event.decided" } }),
        verified: yield* audit.verify
      }
    })
    const records = AuditLogModule.layer().pipe(
      Layer.provide(Journal.layer()),
      Layer.provide(EventBus.layer),
      Layer.provideMerge(SqliteStorage.layer({ filename: file }))
    )
    const { decisions, events, runs, verified } = await Effect.runPromise(books.pipe(Effect.provide(records)))

    expect(verified).toMatchObject({ valid: true })
    const byId = new Map(events.map((event) => [event.id, event]))
    for (const [delivery, eventId] of acknowledged) expect(byId.get(eventId)?.dedupe_key).toContain(delivery)
    expect(events.filter(({ state }) => state === "accepted")).toEqual([])

    const finalOf = new Map<string, number>()
    for (const { body, event_id } of decisions) {
      const { data } = JSON.parse(body) as { data: { action: string } }
      if (["execute", "skip"].includes(data.action)) finalOf.set(event_id ?? "", (finalOf.get(event_id ?? "") ?? 0) + 1)
    }
    expect([...finalOf].filter(([, times]) => times > 1)).toEqual([])
    expect(new Set(runs.map(({ event_id }) => event_id)).size).toBe(runs.length)
    expect(runs.filter(({ state }) => state === "pending" || state === "running")).toEqual([])
    const executed = events.filter(({ state }) => state === "executed").map(({ id }) => id)
    expect(runs.map(({ event_id }) => event_id).sort()).toEqual(executed.sort())
  })
})
