import { readFileSync } from "node:fs"
import { join } from "node:path"
import { ConfigFile } from "@postilion/server"
import { Either } from "effect"
import { describe, expect, it } from "vitest"

const env = { PORT: "9000", EMPTY: "", TEXT: "hunter2" }

/** A file that is broken, and each of the places that says so. */
interface Case {
  readonly text: string
  readonly expected: ReadonlyArray<string>
}

/** `fixtures/broken.txt`: files, each followed by what is to be said of it after `=>`; `…` stands for what follows. */
const categories = readFileSync(join(import.meta.dirname, "fixtures/broken.txt"), "utf8")
  .split(/^## /m)
  .slice(1)
  .map((part) => {
    const [name = "", ...lines] = part.trimEnd().split("\n")
    const cases: Array<Case> = []
    let text: Array<string> = []
    let expected: Array<string> = []
    const end = (): void => void (expected.length > 0 && cases.push({ text: text.join("\n"), expected }))
    for (const line of lines) {
      if (line.startsWith("=> ")) expected.push(line.slice(3))
      else {
        if (expected.length > 0) {
          end()
          text = []
          expected = []
        }
        text.push(line)
      }
    }
    end()
    return { name, cases }
  })

describe("a file that is broken is refused, with the line, the column and what to do", () => {
  it("in more than two hundred ways", () => {
    expect(categories.flatMap(({ cases }) => cases).length).toBeGreaterThan(300)
  })

  for (const { cases, name } of categories) {
    describe(name, () => {
      it.each(cases)("$text", ({ expected, text }) => {
        const result = ConfigFile.parse(text, "gateway.yaml", { env })
        if (Either.isRight(result)) throw new Error("it was taken")
        const { message, problems = [] } = result.left
        const said = problems.map(
          ({ column, line, message, path }) => `${line}:${column} ${path === "" ? "" : `${path}: `}${message}`
        )
        expect(
          said.map((line, i) => (expected[i]?.endsWith("…") ? line.slice(0, (expected[i]?.length ?? 0) - 1) : line))
        ).toEqual(expected.map((line) => line.replace(/…$/, "")))
        // As shown, each has its place, the line and a caret.
        for (const { column, line } of problems) expect(message).toContain(`gateway.yaml:${line}:${column}: `)
        expect(message.match(/^ *\| *\^$/gm)).toHaveLength(problems.length)
        expect(message).not.toContain("hunter2")
      })
    })
  }
})
