import { type Entry, nameOf } from "./Help.ts"

/** Where the words of a command line lead. */
export interface Found {
  readonly words: ReadonlyArray<string>
  readonly entry: Entry
  /** The word that is no command, where there is one. */
  readonly unknown: string | undefined
}

/** Follows the words at the beginning of a command line from `root` down. */
export const follow = (root: Entry, line: ReadonlyArray<string>): Found => {
  let entry = root
  const words = [nameOf(root.command)]
  for (const word of line) {
    if (entry.below.length === 0 || word.startsWith("-")) break
    const next = entry.below.find(({ command }) => nameOf(command) === word)
    if (next === undefined) return { words, entry, unknown: word }
    entry = next
    words.push(word)
  }
  return { words, entry, unknown: undefined }
}
