import { readFileSync } from "node:fs"
import { join } from "node:path"
import { ConfigFile } from "@postilion/server"
import { Ajv } from "ajv"
import { describe, expect, it } from "vitest"
import { parse } from "yaml"
import { jsonSchema, markdown } from "../src/config/Reference.ts"
import type { Shape } from "../src/config/Shape.ts"

const docs = join(import.meta.dirname, "../../../docs")
const validate = new Ajv({ strict: false, allErrors: true }).compile(jsonSchema())
const examples = readFileSync(join(docs, "gateway-file.md"), "utf8").matchAll(/^```yaml\n(.*?)^```$/gms)

/** Keys that nothing is said of. */
const silent = (shape: Shape, path = ""): ReadonlyArray<string> => {
  switch (shape.kind) {
    case "object":
      return [...shape.keys].flatMap(([name, key]) => [
        ...(key.about === "" ? [`${path}.${name}`] : []),
        ...silent(key.shape, `${path}.${name}`)
      ])
    case "record":
      return silent(shape.value, `${path}.*`)
    case "list":
      return silent(shape.item, `${path}[]`)
    case "choice":
      return shape.members.flatMap((member) => silent(member, path))
    case "value":
      return []
  }
}

describe("the reference of the configuration", () => {
  it("docs/configuration.md and gateway.schema.json are what the schema says; else run `node scripts/configuration.mjs`", () => {
    expect(readFileSync(join(docs, "configuration.md"), "utf8")).toBe(markdown())
    for (const folder of [docs, join(import.meta.dirname, "..")]) {
      const written = JSON.parse(readFileSync(join(folder, "gateway.schema.json"), "utf8"))
      expect(written).toEqual(JSON.parse(JSON.stringify(jsonSchema())))
    }
  })

  it("says something of every key", () => {
    expect(silent(ConfigFile.shape)).toEqual([])
  })

  it("takes, as JSON Schema, the files the documents show", () => {
    const files = [...examples].map(([, text = ""]) => parse(text))
    expect(files.length).toBeGreaterThan(0)
    for (const file of files) {
      expect(validate(file), JSON.stringify(validate.errors)).toBe(true)
    }
  })

  it.each([
    ["prot: 8765", /additional/],
    ["port: eight", /number|integer/],
    ["port: 70000", /<= 65535/],
    ["heartbeat: {}", /required/],
    ["heartbeat: { interval: 5 }", /string/],
    ["crons: [{ schedule: [] , instruction: x }]", /fewer than 1/],
    ["policies: { heartbeatPolicy: never }", /allowed values/],
    ["tokens: { ada: { token: x } }", /scopes/],
    ["agents: { ops: { modle: offline } }", /additional/]
  ])("refuses, as JSON Schema, %s", (text, why) => {
    expect(validate(parse(text))).toBe(false)
    expect(validate.errors?.map(({ message }) => message).join("; ")).toMatch(why)
  })

  it("takes a number as a variable, and with underscores", () => {
    expect(
      validate(parse("port: ${PORT}\nmaxBodyBytes: 1_000_000\nheartbeat: { agent: a, interval: 30 minutes }"))
    ).toBe(true)
  })
})
