import { describe, expect, it } from "vitest"
import { begin, cli, project, start } from "./Support.ts"

describe("what follows the gateway", { timeout: 120_000 }, () => {
  it("events tail and audit tail go on across a restart, and end with 130 on Ctrl-C", async () => {
    const { cwd } = await project()
    const first = await start(cwd)
    const events = begin(["events", "tail", "--types", "GatewayEventReceived,PolicyDecisionMade", "--json"], { cwd })
    const people = begin(["events", "tail"], { cwd })
    const audit = begin(["audit", "tail", "--kind", "event.decided"], { cwd })
    // Sent until it is heard: when a subscription has begun is not told.
    const sent: Array<string> = []
    const heard = Promise.all([
      events.printed(/PolicyDecisionMade/),
      people.printed(/PolicyDecisionMade/),
      audit.printed(/event\.decided/)
    ]).then(() => true)
    do {
      sent.push((await cli(["webhook", "send", "/github", "--event", "deployment"], { cwd })).stdout.trim())
    } while (!(await Promise.race([heard, Promise.resolve(false)])))

    expect((await cli(["stop"], { cwd })).code).toBe(0)
    expect((await first.ended).code).toBe(0)
    await audit.printed(/the gateway is away/)
    const second = await start(cwd)
    const later = (await cli(["webhook", "send", "/github", "--event", "deployment"], { cwd })).stdout.trim()
    expect(later).toMatch(/^evt_/)
    const [asJson, asText, records] = await Promise.all(
      [events, people, audit].map(({ printed }) => printed(new RegExp(later)))
    )
    const told = (asJson ?? "")
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line))
    expect(told.map(({ _tag }) => _tag)).toContain("GatewayEventReceived")
    expect(told.map(({ _tag }) => _tag)).not.toContain("ApprovalRequested")
    expect(asText).toMatch(/ApprovalRequested +evt_/)
    expect(records).not.toContain("gateway.started")
    for (const tail of [events, people, audit]) {
      tail.process.kill("SIGINT")
      expect((await tail.ended).code).toBe(130)
    }
    second.process.kill("SIGTERM")
    expect((await second.ended).code).toBe(0)
  })
})
