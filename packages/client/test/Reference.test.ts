import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { errors, events, methods } from "@postilion/client/Protocol"
import { jsonSchema, markdown } from "@postilion/client/Reference"
import { describe, expect, it } from "vitest"

const source = join(import.meta.dirname, "../src")
const gateway = join(import.meta.dirname, "../../gateway/src")
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

/** What the files of a folder, or one file, import or export from. */
const specifiersOf = (files: ReadonlyArray<string>): ReadonlyArray<string> =>
  files.flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/\bfrom\s+"([^"]+)"/g)].map(([, specifier = ""]) => specifier)
  )

describe("the client", () => {
  it("runs in a browser: it imports Effect, itself, and of the gateway what imports nothing of Node either", () => {
    const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))
    const specifiers = specifiersOf(files.map((file) => join(source, file)))
    expect(specifiers.length).toBeGreaterThan(60)
    const domain = new Set<string>()
    const walk = (name: string): void => {
      if (domain.has(name)) return
      domain.add(name)
      for (const specifier of specifiersOf([join(gateway, "domain", name)])) {
        if (specifier.startsWith("./")) walk(specifier.slice(2))
        else expect(specifier, `domain/${name}`).toBe("effect")
      }
    }
    const others = specifiers.filter((specifier) => {
      const [, name] = /^@postilion\/gateway\/domain\/(\w+)$/.exec(specifier) ?? []
      if (name !== undefined) walk(`${name}.ts`)
      return (
        name === undefined &&
        !specifier.startsWith(".") &&
        specifier !== "effect" &&
        !/^@effect\/platform\/\w+$/.test(specifier)
      )
    })
    expect(others).toEqual([])
    expect(domain.size).toBeGreaterThan(5)
  })
})
