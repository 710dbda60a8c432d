import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Protocol } from "@postilion/client"
import { Effect } from "effect"
import { ACTIONS, type Action, allow, SCOPES, type Scope } from "../src/Scopes.ts"
import { routes } from "./Routes.ts"
import { ADA, as, request, server } from "./Support.ts"
import { connected } from "./Wire.ts"

/** Written down apart from the code: o(perator), a(gent), c(lient), v(iewer). */
const EXPECTED: { readonly [A in Action]: string } = {
  status: "o  v",
  budget: "o  v",
  "events.show": "o  v",
  "events.explain": "o  v",
  "events.own": "oacv",
  "runs.read": "o  v",
  route: "o  v",
  "approvals.list": "o  v",
  "approvals.approve": "o   ",
  "approvals.deny": "o   ",
  "deliveries.list": "o  v",
  "deliveries.replay": "o   ",
  "deliveries.drop": "o   ",
  control: "o   ",
  "tokens.create": "o   ",
  "tokens.list": "o   ",
  "tokens.revoke": "o   ",
  metrics: "o  v",
  "events.submit": "o   ",
  "sessions.read": "o  v",
  "sessions.change": "o   ",
  "jobs.list": "o  v",
  "jobs.change": "o   ",
  "jobs.run": "o   ",
  "policies.list": "o  v",
  "policies.change": "o   ",
  "audit.read": "o  v",
  "session.send": "oac ",
  "session.join": "oac ",
  "session.leave": "oac ",
  "session.history": "oac ",
  "run.abort": "oac ",
  "run.abort.any": "o   ",
  broadcast: "oa  ",
  "events.subscribe": "o  v",
  "events.unsubscribe": "o  v",
  "push.publish": "oac ",
  "push.subscribe": "oacv",
  "push.unsubscribe": "oacv",
  "push.ack": "oacv",
  "push.nack": "oacv",
  "push.history": "oacv",
  "presence.query": "oacv",
  "push.dead-letters.list": "o  v",
  "push.dead-letters.replay": "o   ",
  "push.dead-letters.drop": "o   ",
  "agent.serve": " a  ",
  "task.renew": " a  ",
  "task.complete": " a  ",
  "task.fail": " a  ",
  "agents.list": "oacv",
  ping: "oacv"
}

const methods = (Object.keys(Protocol.methods) as Array<Protocol.Method>).filter((method) => method !== "connect")

const may = (scope: Scope, action: Action): boolean => EXPECTED[action].includes(scope.slice(0, 1))

/** Asked of inside a route, of an event that another has sent. */
const INSIDE: ReadonlyArray<Action> = ["events.show", "run.abort.any"]

describe("what a scope may do", () => {
  it.each(ACTIONS)("%s", (action) => {
    for (const scope of SCOPES) expect(allow([scope], action), scope).toBe(may(scope, action))
    expect(allow([], action)).toBe(false)
    expect(allow(SCOPES, action)).toBe(true)
  })

  it("is asked at some door", () => {
    expect([...new Set([...routes.map(({ action }) => action), ...methods, ...INSIDE])].sort()).toEqual(
      [...ACTIONS].sort()
    )
  })

  it.scoped("holds at every method of the socket, for every role", () =>
    Effect.gen(function* () {
      for (const role of SCOPES) {
        const wire = yield* connected(ADA, role)
        for (const method of methods) {
          const { error } = yield* wire.ask(method, { session: "ops", id: "m", text: "hello" })
          // So that there are not ten refusals in a row.
          yield* wire.ask("ping")
          expect(error?.data.code === "forbidden", `${role}: ${method}`).toBe(!may(role, method))
        }
      }
    }).pipe(Effect.provide(server()))
  )

  it.scoped("holds at every route, for every scope", () =>
    Effect.gen(function* () {
      for (const scope of SCOPES) {
        for (const { action, method, path } of routes) {
          const { body, status } = yield* request(path, { ...as(`token-of-${scope}`), method })
          expect(status === 403, `${scope}: ${method} ${path}`).toBe(!may(scope, action))
          if (status === 403) expect(body).toMatchObject({ reason: "not-allowed" })
        }
      }
    }).pipe(
      Effect.provide(
        server({
          tokens: Object.fromEntries(
            SCOPES.map((scope) => [scope, { token: `token-of-${scope}`, scopes: [scope] as const }])
          )
        })
      )
    )
  )
})

describe("docs/security.md", () => {
  const rows = readFileSync(join(import.meta.dirname, "../../../docs/security.md"), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|").map((cell) => cell.trim()))

  it.each(ACTIONS)("says who may do %s", (action) => {
    const [, , ...cells] = rows.find(([, first = ""]) => first.includes(`\`${action}\``)) ?? []
    expect(cells.slice(0, SCOPES.length).map((cell) => cell === "yes")).toEqual(
      SCOPES.map((scope) => may(scope, action))
    )
  })
})
