import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { adapterNames } from "@postilion/gateway/sources/WebhookRoutes"
import { describe, expect, it } from "vitest"
import { batch, cli, type Ended, folder, freePort, start } from "./Support.ts"

const SECRET = "what-both-sides-know"
const STAMPED = "algorithm: sha512, idHeader: X-Id, signatureHeader: X-Signed, timestampHeader: X-Sent-At"

/** Every adapter there is, and what else its keys can make of it. */
const WEBHOOKS = [
  ...adapterNames().map((adapter) => ({ path: `/${adapter}`, adapter, more: "" })),
  { path: "/stamped", adapter: "generic", more: `, ${STAMPED}` },
  { path: "/base", adapter: "generic", more: ", algorithm: sha384" }
]
const configuration = (port: number, secret: string): string =>
  [
    `port: ${port}`,
    "tokens: { ada: file:ada.token }",
    "webhooks:",
    ...WEBHOOKS.map(
      ({ adapter, more, path }) => `  - { path: ${path}, adapter: ${adapter}, secret: "${secret}"${more} }`
    ),
    "  - { path: /open, adapter: generic, unsigned: true }",
    ""
  ].join("\n")

const json = (ended: Ended | undefined) => JSON.parse(ended?.stdout ?? "null")
const detailOf = async (answer: Response) => [answer.status, ((await answer.json()) as { detail?: string }).detail]

describe("webhook sign and send", { timeout: 180_000 }, () => {
  it("make what each adapter takes, once, and what it refuses when the body, the secret or the time is another", async () => {
    const cwd = folder()
    const port = await freePort()
    writeFileSync(join(cwd, "ada.token"), "a-token-of-ada\n", { mode: 0o600 })
    writeFileSync(join(cwd, "gateway.yaml"), configuration(port, SECRET))
    writeFileSync(join(cwd, "other.yaml"), configuration(port, "what-nobody-else-knows"))
    writeFileSync(join(cwd, "body.json"), '{ "type": "from.a.file" }\n')
    await start(cwd)

    const lines = WEBHOOKS.flatMap(({ path }) => [
      ["webhook", "send", path, "--id", "d1", "--json"],
      ["webhook", "send", path, "--id", "d1", "--json"],
      ["webhook", "sign", path, "--id", "d2", "--json"],
      ["webhook", "send", path, "--config", "other.yaml", "--json"]
    ])
    const ended = await batch(lines, { cwd })
    for (const [i, { path }] of WEBHOOKS.entries()) {
      const [sent, again, signed, stranger] = ended.slice(i * 4, i * 4 + 4)
      expect(json(sent), path).toMatchObject({ status: "accepted" })
      expect(json(again), path).toMatchObject({ status: "duplicate", eventId: json(sent).eventId })
      expect(stranger, path).toMatchObject({ code: 1, stderr: expect.stringContaining("401: ") })

      const { body, headers } = json(signed) as { body: string; headers: Record<string, string> }
      const post = (body: string) =>
        fetch(`http://127.0.0.1:${port}/webhooks${path}`, { method: "POST", headers, body })
      const tampered = await post(body.replace("hello", "hullo"))
      expect(await detailOf(tampered), path).toEqual([401, expect.stringContaining("the signature does not match")])
      expect((await post(body)).status, path).toBe(202)
    }

    const [unsigned, kind, fromFile, plain, listed] = await batch(
      [
        ["webhook", "sign", "/open", "--json"],
        ["webhook", "send", "/github", "--event", "deployment"],
        ["webhook", "send", "/stamped", "--file", "body.json"],
        ["webhook", "send", "/generic", "--event", "disk.full"],
        ["events", "list", "--json"]
      ],
      { cwd }
    )
    expect(Object.keys(json(unsigned).headers)).toEqual(["content-type", "x-delivery-id"])
    expect([kind?.code, fromFile?.code, plain?.code]).toEqual([0, 0, 0])
    const types = json(listed).events.map(({ type }: { type: string }) => type)
    expect(types.slice(0, 3)).toEqual(["disk.full", "from.a.file", "deployment"])

    // As `curl -H @file` would send them, too late.
    const { stdout } = await cli(["webhook", "sign", "/stamped"], { cwd })
    const headers = Object.fromEntries(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.split(": ") as [string, string])
    )
    const late = await fetch(`http://127.0.0.1:${port}/webhooks/stamped`, {
      method: "POST",
      headers: { ...headers, "x-sent-at": String(Number(headers["x-sent-at"]) - 3_600) },
      body: JSON.stringify({ type: "note", text: "hello from postilion" })
    })
    expect(await detailOf(late)).toEqual([401, expect.stringContaining("x-sent-at is more than")])
  })
})
