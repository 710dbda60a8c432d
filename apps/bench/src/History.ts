import { SqliteClient } from "@effect/sql-sqlite-node"
import { Gateway, type GatewayConfig, Moment, type PolicyState } from "@postilion/gateway"
import { windowOf } from "@postilion/gateway/domain/Calendar"
import { makeIds } from "@postilion/gateway/domain/Ids"
import * as Evidence from "@postilion/gateway/records/Evidence"
import * as StoreSql from "@postilion/gateway/records/StoreSql"
import Database from "better-sqlite3"
import { DateTime, Effect, Layer } from "effect"

const START = Date.UTC(2026, 5, 1)
const MONTH = 30 * 86_400_000
const UTC = DateTime.zoneMakeOffset(0)

type Row = Record<string, string | number | null>

/** A pull request as a webhook adapter hands it on. */
const payload = (n: number): string =>
  JSON.stringify({
    action: "opened",
    number: n,
    title: `Change ${n}`,
    body: "x".repeat(150),
    user: { login: "octocat" }
  })

/**
 * Writes the records a month of so many events leaves, as a gateway with this configuration would: of each ten, six are run, two
 * heartbeats are skipped, one waits for the next hour and is run then, and one is merged or leads a window.
 */
export const writeHistory = (filename: string, config: GatewayConfig, events: number) =>
  Effect.gen(function* () {
    yield* Effect.scoped(Layer.build(StoreSql.layer.pipe(Layer.provide(SqliteClient.layer({ filename })))))
    const chain = Gateway.builtInPolicies(config).map(({ _tag }) => _tag)
    const db = new Database(filename)
    db.pragma("synchronous = OFF")
    const insert = (table: string) => {
      const columns = (
        db.prepare(`SELECT name FROM pragma_table_info('${table}')`).all() as Array<{ name: string }>
      ).map(({ name }) => name)
      const statement = db.prepare(`INSERT INTO ${table} VALUES (${columns.map(() => "?").join(", ")})`)
      return (row: Row) => void statement.run(columns.map((name) => row[name] ?? null))
    }
    const [event, run, decision] = [insert("events"), insert("runs"), insert("decisions")]
    const nextId = makeIds()
    let order = 0
    let leader: { readonly id: string; readonly until: number; count: number } | undefined
    /** What is decided again at its time. */
    let later: Array<{ readonly at: number; readonly decide: () => void }> = []
    const decideLater = (until: number): void => {
      const due = later.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)
      later = later.filter(({ at }) => at > until)
      for (const { decide } of due) {
        order += 1
        decide()
      }
    }

    const evidence = (policy: string, at: number, facts: Partial<PolicyState> = {}): string => {
      const place = chain.indexOf(policy)
      const passed = place === -1 ? chain : chain.slice(0, place)
      const budget = {
        scope: "*",
        unit: "tokens",
        window: "day",
        limit: 10_000_000_000,
        used: 90 * (order % 20_000),
        reserved: 0,
        estimate: 1_200,
        resetsAt: new Date(windowOf(at, "day", UTC).end)
      } as const
      const state = {
        now: new Moment(at, UTC),
        nextMorning: new Date(0),
        budget,
        budgets: [budget],
        rate: {
          limit: 1_000,
          count: policy === "RateLimit" ? 1_000 : 10,
          resetsAt: new Date(windowOf(at, "hour", UTC).end)
        },
        pending: { queued: 0, merging: 0, awaitingApproval: 0, running: 0 },
        heartbeat: { consecutiveSkips: 0, changed: false },
        merge: null,
        approval: null,
        chain: { depth: 0, count: 1 },
        sender: { count: 0 },
        agent: { failures: 0, lastAt: null },
        ...facts
      }
      const notAsked = place === -1 ? [] : chain.slice(place + 1)
      const asked = {
        decision: { action: "execute", taskDescription: "" },
        policy,
        passed,
        notAsked,
        failed: false
      } as const
      return Evidence.encode(asked, state)
    }
    const write = (n: number): void => {
      const at = START + Math.floor((n * MONTH) / events)
      decideLater(at)
      const id = nextId("evt", at)
      order += 1
      const accepted_seq = order
      const kind = n % 10
      const runOf = (decided: number): void => {
        const runId = nextId("run", decided)
        run({
          id: runId,
          event_id: id,
          agent_id: "agent",
          source: "webhook",
          state: "completed",
          attempt: 1,
          task: "Handle this webhook event.",
          reserved_tokens: 1_200,
          input_tokens: 60,
          output_tokens: 30,
          cost_usd: 0.0006,
          model: "model",
          text: "done",
          created_at: decided,
          started_at: decided,
          ended_at: decided + 2_000
        })
      }
      const common = {
        seq: n + 1,
        id,
        accepted_seq,
        agent_id: "agent",
        route: '{"by":"agentId"}',
        priority: "normal",
        timestamp: at,
        received_at: at,
        payload: payload(n),
        decided_at: at,
        chain_depth: 0,
        chain_count: 0
      }
      const only = (row: Row): void =>
        event({
          ...common,
          source: "webhook",
          metadata: '{"type":"pull_request.opened"}',
          held: 0,
          state: "executed",
          ...row
        })
      const decided = (row: Row): void => {
        decision({ seq: order, event_id: id, at, ...row })
      }
      /** Let through at last. */
      const again = (until: number, row: Row, facts: () => Partial<PolicyState> = () => ({})): void => {
        const decide = (): void => {
          const last = { action: "execute", policy: "default", evidence: evidence("default", until, facts()) }
          decided({ ...last, at: until })
          only({ ...last, ...row, held: 1, decided_at: until })
          runOf(until)
        }
        later.push({ at: until, decide })
      }
      if (kind < 6) {
        only({ action: "execute", policy: "default", evidence: evidence("default", at) })
        runOf(at)
      } else if (kind < 8) {
        const reason = "nothing has changed since the last tick"
        const tick = { source: "heartbeat", metadata: "{}", state: "suppressed" }
        only({
          ...tick,
          action: "skip",
          policy: "AdaptiveHeartbeat",
          reason,
          evidence: evidence("AdaptiveHeartbeat", at)
        })
      } else if (kind === 8) {
        const until = windowOf(at, "hour", UTC).end
        const reason = "rate limit: 1000 of 1000 actions this hour"
        decided({ action: "queue", policy: "RateLimit", reason, evidence: evidence("RateLimit", at), due_at: until })
        again(until, {})
      } else {
        const metadata = '{"type":"pull_request.opened","mergeKey":"octo/hello"}'
        const merge = {
          action: "merge",
          policy: "EventMerging",
          merge_key: "octo/hello",
          evidence: evidence("EventMerging", at)
        }
        if (leader !== undefined && at < leader.until) {
          leader.count += 1
          only({ ...merge, metadata, state: "merged", merged_into: leader.id })
          return
        }
        const led = { id, until: at + 300_000, count: 1 }
        leader = led
        decided({ ...merge, due_at: led.until })
        again(led.until, { metadata, merge_key: "octo/hello" }, () => ({
          merge: { key: "octo/hello", count: led.count }
        }))
      }
    }
    db.exec("BEGIN")
    for (let n = 0; n < events; n++) write(n)
    decideLater(Number.POSITIVE_INFINITY)
    db.exec("COMMIT")
    db.close()
  })
