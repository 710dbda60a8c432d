import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"

const PROVIDERS = ["@effect/ai-anthropic", "@effect/ai-openai"]

/** Imports `specifier` in a process of its own where importing any of `forbidden` throws. */
const importWithout = (specifier: string, forbidden: ReadonlyArray<string>) => {
  const hooks = `
    const forbidden = ${JSON.stringify(forbidden)}
    export const resolve = (specifier, context, next) => {
      if (forbidden.some((name) => specifier.startsWith(name))) throw new Error("imported " + specifier)
      return next(specifier, context)
    }`
  const main = `
    import { register } from "node:module"
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})
    await import(${JSON.stringify(specifier)})`
  return Effect.tryPromise(() =>
    promisify(execFile)(
      process.execPath,
      ["--conditions=@postilion/source", "--import=tsx", "--input-type=module", "--eval", main],
      { cwd: import.meta.dirname }
    )
  )
}

describe("imports", () => {
  for (const [specifier, forbidden] of [
    ["@postilion/agents", PROVIDERS],
    ["@postilion/agents/OfflineRunner", PROVIDERS],
    ["@postilion/agents/OpenAiCompatibleRunner", PROVIDERS],
    ["@postilion/agents/AnthropicRunner", ["@effect/ai-openai"]],
    ["@postilion/agents/OpenAiRunner", ["@effect/ai-anthropic"]]
  ] as const) {
    it.effect(`${specifier} does not load ${forbidden.join(" or ")}`, () => importWithout(specifier, forbidden))
  }

  it.effect("the check itself bites", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(importWithout("@postilion/agents/AnthropicRunner", PROVIDERS))
      expect(String(error.cause)).toContain("imported @effect/ai-anthropic")
    })
  )
})
