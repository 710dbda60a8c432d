import { readdirSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { asyncApi } from "@postilion/client/AsyncApi"
import { errors, events, methods } from "@postilion/client/Protocol"
import { jsonSchema, markdown } from "@postilion/client/Reference"
import { Ajv } from "ajv"
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

const Reference = /^#\//
/** All that a document refers to in itself. */
const references = (part: unknown): ReadonlyArray<string> => {
  if (typeof part !== "object" || part === null) return []
  return Object.entries(part).flatMap(([key, value]) =>
    key === "$ref" && typeof value === "string" ? [value] : references(value)
  )
}
const at = (document: unknown, pointer: string): unknown =>
  pointer
    .replace(Reference, "")
    .split("/")
    .reduce<unknown>(
      (part, key) => (typeof part === "object" && part !== null ? Reflect.get(part, key) : undefined),
      document
    )

describe("the AsyncAPI document", () => {
  const document: unknown = JSON.parse(readFileSync(join(docs, "asyncapi.json"), "utf8"))

  it("docs/asyncapi.json is what the schemas say; else run `node scripts/protocol.mjs`", () => {
    expect(document).toEqual(asyncApi())
  })

  it("is AsyncAPI 3.0, refers to what is there, and has every method and notification", () => {
    const official = createRequire(import.meta.url)("@asyncapi/specs/schemas/3.0.0-without-$id.json")
    const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true })
    const isValid = ajv.compile(official)
    isValid(document)
    expect(isValid.errors ?? []).toEqual([])
    expect(isValid({ ...asyncApi(), channels: { control: { address: 1 } } })).toBe(false)
    const named = references(document)
    expect(named.length).toBeGreaterThan(100)
    expect(named.filter((pointer) => !Reference.test(pointer) || at(document, pointer) === undefined)).toEqual([])
    expect(Object.keys(at(document, "#/operations") as object).sort()).toEqual(
      [...Object.keys(methods), ...Object.keys(events)].sort()
    )
  })

  it("its messages are the frames", () => {
    const ajv = new Ajv({ strict: false, validateFormats: false })
    ajv.addSchema(document as object, "asyncapi")
    const isMessage = (name: string, frame: object) =>
      ajv.validate({ $ref: `asyncapi#/components/messages/${name}/payload` }, { jsonrpc: "2.0", ...frame })
    expect(isMessage("ping", { id: 1, method: "ping" })).toBe(true)
    const params = { session: "ops", id: "m1", text: "hello" }
    expect(isMessage("session.send", { id: "a", method: "session.send", params })).toBe(true)
    expect(isMessage("session.send", { id: "a", method: "session.send", params: { ...params, text: "" } })).toBe(false)
    expect(isMessage("session.send", { id: "a", method: "session.send" })).toBe(false)
    const data = { code: "parse-error", nextStep: "send JSON" }
    expect(isMessage("error", { id: null, error: { code: -32_700, message: "no JSON", data } })).toBe(true)
    expect(isMessage("error", { id: null, error: { code: -32_700, message: "no JSON", data: { code: "odd" } } })).toBe(
      false
    )
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
