import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { Gateway } from "@postilion/gateway"
import { adapterNames } from "@postilion/gateway/sources/WebhookRoutes"
import { ConfigFile } from "@postilion/server"
import { Either } from "effect"
import { describe, expect, it } from "vitest"
import { root } from "../src/Cli.ts"
import { pageOf } from "../src/Help.ts"
import { markdown } from "../src/Reference.ts"
import { CHOICES, template } from "../src/Template.ts"
import { follow } from "../src/Words.ts"

const base = join(import.meta.dirname, "../../..")
const documents = [
  "README.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(base, "docs")).map((name) => `docs/${name}`)
].filter((name) => name.endsWith(".md"))
const textOf = (name: string): string => readFileSync(join(base, name), "utf8")

/** Command lines in code, wherever they stand. */
const linesIn = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/`([^`\n]*)`|^(.*)$/gm)]
    .flatMap(([, inline, line]) => [inline ?? line ?? ""])
    .flatMap((code) => [...code.matchAll(/(?:^|[\s(/"])postilion ((?:[a-z][\w-]*|--?\w)[^`#|;")]*)/g)])
    .map(([, rest = ""]) => rest.trim())

describe("the documents", () => {
  it("docs/cli.md is what the commands say; else run `node scripts/cli.mjs`", () => {
    expect(textOf("docs/cli.md")).toBe(markdown())
  })

  it("name commands and options that there are", () => {
    let count = 0
    for (const document of documents) {
      for (const line of linesIn(textOf(document))) {
        const words = line.split(/\s+/)
        const { entry, unknown, words: path } = follow(root, words)
        // Prose that begins with the program's name is no command: those begin with a word of the first row.
        if (path.length === 1 && unknown !== undefined && !document.endsWith("cli.md")) {
          if (
            !/^(init|check|start|stop|status|doctor|events?|explain|runs|route|audit|approvals?|cron|sessions?|tokens?)/.test(
              unknown
            )
          )
            continue
        }
        expect(unknown, `${document}: postilion ${line}`).toBeUndefined()
        const options = pageOf(path, entry).options.flatMap(({ shown }) => shown.match(/-{1,2}[a-z][a-z-]*/g) ?? [])
        for (const [, option = ""] of line.matchAll(/(?:^|\s)(--[a-z][a-z-]*)/g)) {
          expect([...options, "--help", "--version"], `${document}: postilion ${line}`).toContain(option)
        }
        count += 1
      }
    }
    expect(count).toBeGreaterThan(60)
  })

  it("have configurations that are right", () => {
    const blocks = documents.flatMap((document) =>
      [...textOf(document).matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ""]) => [document, text] as const)
    )
    for (const [document, text] of blocks) {
      const env = Object.fromEntries([...text.matchAll(/\$\{(\w+)/g)].map(([, name = ""]) => [name, "s3cr3t"]))
      const keys = { ANTHROPIC_API_KEY: "x", OPENAI_API_KEY: "x" }
      const parsed = ConfigFile.parse(text.replaceAll(/file:[\w./-]+/g, "s3cr3t"), join(base, document), {
        env: { ...env, ...keys }
      })
      expect(Either.isRight(parsed) || parsed.left.message, document).toBe(true)
    }
  })

  it("docs/troubleshooting.md has every kind of error, its cause and its cure", () => {
    const tags = readdirSync(join(base, "packages")).flatMap((name) => {
      const source = join(base, "packages", name, "src")
      return readdirSync(source, { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(".ts"))
        .flatMap((file) => [
          ...readFileSync(join(source, file), "utf8").matchAll(/\bTaggedError(?:<\w+>\(\))?\("(\w+)"/g)
        ])
        .map(([, tag]) => tag)
    })
    const headings = [...textOf("docs/troubleshooting.md").matchAll(/^### (\w+)$/gm)].map(([, heading]) => heading)
    expect(tags.length).toBeGreaterThan(10)
    expect(headings).toEqual(expect.arrayContaining(tags))
    expect(headings).toEqual([...headings].sort())
    const sections = textOf("docs/troubleshooting.md").split(/^### /m).slice(1)
    for (const section of sections) expect(section).toMatch(/^\w+\n\n\w.*\bCure[:,]/s)
    const errors = readFileSync(join(base, "packages/gateway/src/domain/Errors.ts"), "utf8")
    const [, reasons = ""] = /type GatewayErrorReason =((?:\s*\| "[a-z-]+")+)/.exec(errors) ?? []
    const all = [...reasons.matchAll(/"([a-z-]+)"/g)].map(([, reason]) => reason)
    const section = sections.find((section) => section.startsWith("GatewayError\n"))
    expect(all.length).toBeGreaterThan(5)
    for (const reason of all) expect(section).toContain(`\`${reason}\``)
  })

  it("docs/policies.md has a use of every built-in policy, in the order they are asked", () => {
    const hours = '{ from: "08:00", to: "18:00" }'
    const text = `policies: { maxPerSenderPerMinute: 1, requireApprovalFor: [deploy], businessHours: ${hours}, quietHours: ${hours} }`
    const { config } = Either.getOrThrow(ConfigFile.parse(text, "gateway.yaml", { env: {} }))
    const policies = [...Gateway.builtInPolicies(config)].sort((a, b) => a.priority - b.priority)
    const headings = [...textOf("docs/policies.md").matchAll(/^### (\w+)$/gm)].map(([, heading]) => heading)
    expect(policies.length).toBeGreaterThan(10)
    expect(headings).toEqual(policies.map(({ _tag }) => _tag))
  })

  it("docs/webhooks.md has every adapter", () => {
    const headings = [...textOf("docs/webhooks.md").matchAll(/^## (\w+)$/gm)].map(([, heading]) =>
      heading?.toLowerCase()
    )
    expect(headings).toEqual(expect.arrayContaining([...adapterNames()]))
  })

  it("what init offers comments keys that there are", () => {
    const all = template(CHOICES, "gateway.schema.json").replaceAll(
      /^(\s*)# (?=(?:heartbeat|crons|budget|\s+(?:- name|interval|instruction|schedule|timezone)):?)/gm,
      "$1"
    )
    expect(all).toContain("\nheartbeat:")
    const parsed = ConfigFile.parse(all.replaceAll(/file:\S+/g, "s3cr3t-s3cr3t-s3cr3t"), join(base, "gateway.yaml"), {
      env: {}
    })
    expect(Either.isRight(parsed) || parsed.left.message).toBe(true)
  })
})
