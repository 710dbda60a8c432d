import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import type * as HelpDoc from "@effect/cli/HelpDoc"
import type * as Span from "@effect/cli/HelpDoc/Span"
import type * as NodeContext from "@effect/platform-node/NodeContext"
import { HashSet } from "effect"

// biome-ignore lint/suspicious/noExplicitAny: a command's name and what it takes are its own business
export type AnyCommand = Command.Command<any, NodeContext.NodeContext, unknown, any>

/** A command, and those below it. */
export interface Entry {
  readonly command: AnyCommand
  readonly below: ReadonlyArray<Entry>
}

/** A command's words, and all that is said of it: what the terminal and `docs/cli.md` show. */
export interface Page {
  readonly words: ReadonlyArray<string>
  readonly about: ReadonlyArray<string>
  readonly arguments: ReadonlyArray<Parameter>
  readonly options: ReadonlyArray<Parameter>
  readonly below: ReadonlyArray<Entry>
}
export interface Parameter {
  /** As it is written: `--limit n`. */
  readonly shown: string
  readonly about: string
}

const spanText = (span: Span.Span): string => {
  switch (span._tag) {
    case "Sequence":
      return spanText(span.left) + spanText(span.right)
    case "Text":
    case "URI":
      return span.value
    default:
      return spanText(span.value)
  }
}

/** Its paragraphs, as text. */
export const paragraphs = (doc: HelpDoc.HelpDoc): ReadonlyArray<string> => {
  switch (doc._tag) {
    case "Empty":
    case "DescriptionList":
      return []
    case "Header":
    case "Paragraph":
      return [spanText(doc.value)]
    case "Enumeration":
      return doc.elements.flatMap(paragraphs)
    case "Sequence":
      return [...paragraphs(doc.left), ...paragraphs(doc.right)]
  }
}

/** The library says first what type it is, then what we say of it, then whether it is optional: ours is what counts. */
const parameter = ([name, doc]: readonly [Span.Span, HelpDoc.HelpDoc]): Parameter => ({
  shown: spanText(name)
    .trim()
    .replace(/^\((.*)\)$/, "$1"),
  about: paragraphs(doc)[1] ?? ""
})

const blocks = (doc: HelpDoc.HelpDoc): ReadonlyArray<HelpDoc.HelpDoc> =>
  doc._tag === "Sequence" ? [...blocks(doc.left), ...blocks(doc.right)] : [doc]

const LIBRARY = CliConfig.make({ showBuiltIns: false })
export const nameOf = (command: AnyCommand): string => [...HashSet.values(Command.getNames(command))][0] ?? ""

/** What there is to say of a command. */
export const pageOf = (words: ReadonlyArray<string>, { below, command }: Entry): Page => {
  let section = ""
  const about: Array<string> = []
  const parameters: Record<string, Array<Parameter>> = { ARGUMENTS: [], OPTIONS: [] }
  for (const block of blocks(Command.getHelp(command, LIBRARY))) {
    if (block._tag === "Header") section = spanText(block.value)
    else if (block._tag === "DescriptionList") parameters[section]?.push(...block.definitions.map(parameter))
    else if (section === "DESCRIPTION") about.push(...paragraphs(block))
  }
  return { words, about, arguments: parameters.ARGUMENTS ?? [], options: parameters.OPTIONS ?? [], below }
}

/** Every command, each after the one it is below. */
export const pages = (entry: Entry, words: ReadonlyArray<string> = [nameOf(entry.command)]): ReadonlyArray<Page> => [
  pageOf(words, entry),
  ...entry.below.flatMap((child) => pages(child, [...words, nameOf(child.command)]))
]

/** How it is written: `postilion events show [options] <event>`. */
export const usageOf = ({ arguments: args, below, options, words }: Page): string =>
  [
    ...words,
    ...(below.length > 0 ? ["<command>"] : []),
    ...(options.length > 0 ? ["[options]"] : []),
    ...args.map(({ shown }) => shown)
  ].join(" ")

const columns = (rows: ReadonlyArray<readonly [string, string]>): ReadonlyArray<string> => {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`.trimEnd())
}
const section = (head: string, rows: ReadonlyArray<readonly [string, string]>): ReadonlyArray<string> =>
  rows.length === 0 ? [] : ["", `${head}:`, ...columns(rows)]

/** The page as a terminal shows it. */
export const render = (page: Page): string => {
  const below = page.below.map((child) => pageOf([nameOf(child.command)], child))
  return [
    `Usage: ${usageOf(page)}`,
    ...page.about.flatMap((text) => ["", text]),
    ...section(
      "Commands",
      below.map(({ about: [first = ""], words }) => [words.join(" "), first])
    ),
    ...section(
      "Arguments",
      page.arguments.map(({ about, shown }) => [shown, about])
    ),
    ...section(
      "Options",
      page.options.map(({ about, shown }) => [shown, about])
    )
  ].join("\n")
}
