import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { errors, events, methods } from "@postilion/client/Protocol"
import { jsonSchema, markdown } from "@postilion/client/Reference"
import { describe, expect, it } from "vitest"

const source = join(import.meta.dirname, "../src")
const docs = join(import.meta.dirname, "../../../docs")

describe("the protocol's reference", () => {
  it("docs/protocol.md and docs/protocol.json are what the schemas say; else run `node scripts/protocol.mjs`", () => {
    expect(readFileSync(join(docs, "protocol.md"), "utf8")).toBe(markdown())
    expect(JSON.parse(readFileSync(join(docs, "protocol.json"), "utf8"))).toEqual(
      JSON.parse(JSON.stringify(jsonSchema()))
    )
  })

  it("has every method, notification and error", () => {
    const text = markdown()
    for (const name of [...Object.keys(methods), ...Object.keys(events)]) expect(text).toContain(`### ${name}\n`)
    for (const code of Object.keys(errors)) expect(text).toContain(`\`${code}\``)
    const numbers = Object.values(errors).map(({ number }) => number)
    expect(new Set(numbers).size).toBe(numbers.length)
  })
})

describe("the client", () => {
  it("runs in a browser: it imports Effect and itself, and nothing of Node", () => {
    const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))
    const specifiers = files.flatMap((file) =>
      [...readFileSync(join(source, file), "utf8").matchAll(/\bfrom\s+"([^"]+)"/g)].map(
        ([, specifier = ""]) => specifier
      )
    )
    expect(specifiers.length).toBeGreaterThan(15)
    expect(specifiers.filter((specifier) => specifier !== "effect" && !specifier.startsWith("."))).toEqual([])
  })
})
