import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"

const root = fileURLToPath(new URL("../src", import.meta.url))
const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .sort()

/** Rooms by how far in they are: each may import itself and those before it. */
const ROOMS = ["domain", "records", "runs", "harness", "sources"]
const roomOf = (file: string): string => (file.includes("/") ? (file.split("/")[0] ?? "") : "top")

/** The specifiers a file imports or exports from, statically or not. */
const specifiersOf = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s+)["']([^"']+)["']/gm)].map(
    ([, specifier = ""]) => specifier
  )

const imports = files.flatMap((file) =>
  specifiersOf(readFileSync(join(root, file), "utf8")).map((specifier) => ({ file, specifier }))
)
const local = imports
  .filter(({ specifier }) => specifier.startsWith("."))
  .map(({ file, specifier }) => ({ file, target: relative(root, join(root, dirname(file), specifier)) }))

const mayImport = (from: string, to: string): boolean => {
  if (from === "top") return true
  if (to === "top") return false
  if (from === "internal") return to === "internal"
  if (to === "internal") return from !== "domain"
  return ROOMS.indexOf(to) <= ROOMS.indexOf(from)
}

describe("the house", () => {
  it("has these rooms and no others", () => {
    const rooms = new Set(files.map(roomOf))
    expect([...rooms].sort()).toEqual([...ROOMS, "internal", "top"].sort())
    expect(files.length).toBeGreaterThan(40)
    expect(local.length).toBeGreaterThan(150)
  })

  it("imports go one way: sources, harness, runs, records, domain", () => {
    const wrong = local.filter(({ file, target }) => !mayImport(roomOf(file), roomOf(target)))
    expect(wrong).toEqual([])
  })

  it("imports name files there are, with their extension", () => {
    expect(local.filter(({ target }) => !files.includes(target))).toEqual([])
  })

  it("files do not import each other in a circle", () => {
    const targets = new Map<string, Array<string>>()
    for (const { file, target } of local) targets.set(file, [...(targets.get(file) ?? []), target])
    const circles: Array<string> = []
    const done = new Set<string>()
    const walk = (file: string, path: ReadonlyArray<string>): void => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" → "))
      if (done.has(file) || path.includes(file)) return
      for (const target of targets.get(file) ?? []) walk(target, [...path, file])
      done.add(file)
    }
    for (const file of files) walk(file, [])
    expect(circles).toEqual([])
  })

  it("from outside it takes effect, its platform and SQL, cron-parser, and of Node nothing but crypto", () => {
    const allowed = [/^effect(\/|$)/, /^@effect\/(platform|sql)(\/|$)/, /^cron-parser$/, /^node:crypto$/]
    const foreign = imports.filter(({ specifier }) => !specifier.startsWith("."))
    expect(foreign.length).toBeGreaterThan(40)
    expect(foreign.filter(({ specifier }) => !allowed.some((pattern) => pattern.test(specifier)))).toEqual([])
  })

  it("the domain uses no services", () => {
    const used = /Context\.(Tag|Reference|GenericTag)|Layer\.|yield\* [A-Z]\w+$/m
    const wrong = files.filter((file) => roomOf(file) === "domain" && used.test(readFileSync(join(root, file), "utf8")))
    expect(wrong).toEqual([])
  })

  it("time and chance come from the Clock and the operating system: no Date.now, no Math.random, no console", () => {
    const wrong = files.filter((file) =>
      /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bconsole\./.test(
        readFileSync(join(root, file), "utf8").replaceAll(/^\s*(\*|\/\/|\/\*).*$/gm, "")
      )
    )
    expect(wrong).toEqual([])
  })
})
