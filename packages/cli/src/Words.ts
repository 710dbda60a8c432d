import { type Entry, nameOf } from "./Help.ts"

/** How many letters have to be changed, added or taken out to make one of the other. */
const distance = (a: string, b: string): number => {
  let before = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = (before[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(changed, (before[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1))
    }
    before = row
  }
  return before[b.length] ?? 0
}
/** The name that was probably meant. */
export const nearest = (word: string, names: ReadonlyArray<string>): string | undefined => {
  const [best] = names.map((name) => [name, distance(word, name)] as const).sort(([, a], [, b]) => a - b)
  return best !== undefined && best[1] <= Math.max(1, Math.floor(word.length / 3)) ? best[0] : undefined
}

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
