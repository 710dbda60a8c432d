import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { ADA, as, deliver, eventually, request, say, server } from "./Support.ts"

interface Sample {
  readonly family: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const unescape = (text: string): string =>
  text.replaceAll(/\\(.)/g, (_, char: string) => {
    if (char === "n") return "\n"
    if (char !== "\\" && char !== '"') throw new Error(`no escape: \\${char}`)
    return char
  })

/** Reads the text format of Prometheus 0.0.4, and throws at whatever is not as it is written there. */
const parse = (
  text: string
): { readonly types: ReadonlyMap<string, string>; readonly samples: ReadonlyArray<Sample> } => {
  if (!text.endsWith("\n")) throw new Error("the last line has no end")
  const types = new Map<string, string>()
  const seen = new Set<string>()
  const samples: Array<Sample> = []
  let helped: string | undefined
  let current: string | undefined
  for (const line of text.slice(0, -1).split("\n")) {
    const [, help] = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (?:[^\\\n]|\\\\|\\n)+$/.exec(line) ?? []
    if (help !== undefined) {
      if (types.has(help)) throw new Error(`${help} is there twice`)
      helped = help
      continue
    }
    const [, typed, type] = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)$/.exec(line) ?? []
    if (typed !== undefined && type !== undefined) {
      if (typed !== helped) throw new Error(`${typed} has no help`)
      if ((type === "counter") !== typed.endsWith("_total")) throw new Error(`${typed} is a ${type}`)
      types.set(typed, type)
      current = typed
      continue
    }
    const [, name = "", written = "", number = ""] =
      /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)+)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|NaN|[+-]Inf)$/.exec(
        line
      ) ?? []
    if (name === "") throw new Error(`not a line: ${line}`)
    if (name !== current) throw new Error(`${name} is not where its type is`)
    if (written.endsWith(",")) throw new Error(`a comma too many: ${line}`)
    if (seen.has(`${name}{${written}}`)) throw new Error(`there twice: ${line}`)
    seen.add(`${name}{${written}}`)
    const labels = [...written.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g)]
    samples.push({
      family: name,
      labels: Object.fromEntries(labels.map(([, label = "", value = ""]) => [label, unescape(value)])),
      value: Number(number)
    })
  }
  for (const family of types.keys()) {
    if (!samples.some((sample) => sample.family === family)) throw new Error(`${family} has no sample`)
  }
  return { types, samples }
}

const scrape = Effect.map(request("/metrics", as(ADA)), ({ headers, status, text }) => {
  expect(status).toBe(200)
  expect(headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8")
  const { samples } = parse(text)
  return (family: string, labels: Record<string, string> = {}): number | undefined =>
    samples.find(
      (sample) =>
        sample.family === `postilion_${family}` &&
        Object.entries(labels).every(([label, value]) => sample.labels[label] === value)
    )?.value
})

describe("GET /metrics", () => {
  it("its parser refuses what is not the format", () => {
    const good = '# HELP a_total A.\n# TYPE a_total counter\na_total{b="\\"c\\\\\\n"} 1\n'
    expect(parse(good).samples).toEqual([{ family: "a_total", labels: { b: '"c\\\n' }, value: 1 }])
    const bad = [
      good.trimEnd(),
      good + good,
      good.replace("counter", "gauge"),
      good.replace("# HELP a_total A.\n", ""),
      good.replace(" 1\n", "\n"),
      good.replace(" 1\n", " one\n"),
      good.replace('"} 1', '",} 1'),
      good.replace("a_total{", "b_total{"),
      `${good}\n`
    ]
    for (const text of bad) expect(() => parse(text), text).toThrow()
  })

  it.scoped("says what status says, as counters and gauges", () =>
    Effect.gen(function* () {
      const before = yield* scrape
      expect(before("tokens_used_total")).toBe(0)
      expect(before("budget_limit", { scope: "*", unit: "tokens", window: "day" })).toBe(50_000)
      expect(before("budget_limit", { scope: "agent", unit: "usd", window: "month" })).toBe(2.5)
      expect(before("budget_limit", { scope: 'say "hi" \\ to\nall', window: "hour" })).toBe(7)
      expect(before("actions_in_hour_limit")).toBe(20)
      expect(before("switch", { agent: "agent" })).toBeUndefined()
      expect(before("scheduler_jobs")).toBe(1)

      yield* say({ text: "hello" })
      yield* deliver("deployment", "d1")
      yield* eventually(request("/approvals", as(ADA)), ({ body }) => (body.approvals as Array<unknown>).length === 1)
      yield* request("/agents/agent/pause", { ...as(ADA), method: "POST" })
      yield* deliver("push", "d2")

      const after = yield* scrape
      const { body } = yield* request("/status", as(ADA))
      expect(after("chat_turns_handled_total")).toBe(1)
      expect(after("webhooks_received_total")).toBe(2)
      expect(after("actions_escalated_total")).toBe(1)
      expect(after("tokens_used_total")).toBe(15)
      expect(after("budget_used", { scope: "*", unit: "tokens", window: "day" })).toBe(15)
      expect(after("pending", { state: "awaitingApproval" })).toBe(1)
      expect(after("switch", { agent: "agent", mode: "paused" })).toBe(1)
      expect(after("deliveries", { state: "failed" })).toBe(0)
      expect(after("storage_failing")).toBe(0)
      expect(after("held")).toBe(0)
      for (const { name } of body.components as ReadonlyArray<{ name: string }>) {
        expect(after("component_running", { component: name }), name).toBe(1)
        expect(after("component_restarts_total", { component: name }), name).toBe(0)
      }
    }).pipe(
      Effect.provide(
        server({
          agents: {
            agent: { budget: { usdPerMonth: 2.5 } },
            'say "hi" \\ to\nall': { budget: { tokensPerHour: 7 } }
          },
          crons: [{ agentId: "agent", schedule: "* * * * *", instruction: "look" }],
          policies: {
            dailyTokenBudget: 50_000,
            maxActionsPerHour: 20,
            requireApprovalFor: ["deploy"],
            unknownModel: "count-as-zero"
          }
        })
      )
    )
  )
})
