import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { describe, expect, it } from "vitest"

const source = join(import.meta.dirname, "../src")
const PROVIDERS = ["@effect/ai-anthropic", "@effect/ai-openai"]

/** What a module and those of this package that it imports have from elsewhere; types are not loaded. */
const importsOf = (file: string, seen = new Set<string>()): ReadonlySet<string> => {
  if (seen.has(file)) return seen
  seen.add(file)
  const statements = readFileSync(file, "utf8").matchAll(/^(?:import|export)\s(?!type\s)[^"]*?(?:from\s+)?"([^"]+)"/gm)
  for (const [, specifier = ""] of statements) {
    if (specifier.startsWith(".")) importsOf(join(dirname(file), specifier), seen)
    else seen.add(specifier)
  }
  return seen
}
const providersOf = (module: string) => {
  const file = join(source, `${module}.ts`)
  expect(existsSync(file)).toBe(true)
  return PROVIDERS.filter((provider) => [...importsOf(file)].some((name) => name.split("/", 2).join("/") === provider))
}

describe("a provider's library is only loaded by what uses it", () => {
  for (const [module, providers] of [
    ["index", []],
    ["OfflineRunner", []],
    ["OpenAiCompatibleRunner", []],
    ["AnthropicRunner", ["@effect/ai-anthropic"]],
    ["OpenAiRunner", ["@effect/ai-openai"]]
  ] as const) {
    it(`${module}: ${providers.join(", ") || "none"}`, () => {
      expect(providersOf(module)).toEqual(providers)
    })
  }
})
