import { describe, expect, it } from "vitest"
import { batch, begin, cli, project, start } from "./Support.ts"

describe("what follows the gateway", { timeout: 300_000 }, () => {
  it("events tail, audit tail and push subscribe go on across a restart, and end with 130 on Ctrl-C", async () => {
    const { cwd } = await project()
    const first = await start(cwd)
    const events = begin(["events", "tail", "--types", "GatewayEventReceived,PolicyDecisionMade", "--json"], { cwd })
    const people = begin(["events", "tail"], { cwd })
    const audit = begin(["audit", "tail", "--kind", "event.decided"], { cwd })
    const channel = begin(["push", "subscribe", "alerts"], { cwd })
    // Sent until it is heard: when a subscription has begun is not told.
    const sent: Array<string> = []
    const heard = Promise.all([
      events.printed(/PolicyDecisionMade/),
      people.printed(/PolicyDecisionMade/),
      audit.printed(/event\.decided/),
      channel.printed(/operator: disk \d/)
    ]).then(() => true)
    do {
      const [made] = await batch(
        [
          ["webhook", "send", "/github", "--event", "deployment"],
          ["push", "publish", "alerts", `disk ${sent.length}`]
        ],
        { cwd }
      )
      sent.push(made?.stdout.trim() ?? "")
    } while (!(await Promise.race([heard, Promise.resolve(false)])))

    expect((await cli(["stop"], { cwd })).code).toBe(0)
    expect((await first.ended).code).toBe(0)
    await audit.printed(/the gateway is away/)
    const second = await start(cwd)
    const later = (await cli(["webhook", "send", "/github", "--event", "deployment"], { cwd })).stdout.trim()
    expect(later).toMatch(/^evt_/)
    expect((await cli(["push", "publish", "alerts", '{"disk":"full"}', "--json"], { cwd })).code).toBe(0)
    await channel.printed(/operator: \{"disk":"full"\}/)
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
    for (const tail of [events, people, audit, channel]) {
      tail.process.kill("SIGINT")
      expect((await tail.ended).code).toBe(130)
    }
    second.process.kill("SIGTERM")
    expect((await second.ended).code).toBe(0)
  })
})
