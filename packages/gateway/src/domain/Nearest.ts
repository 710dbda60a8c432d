/** How many letters have to be changed, added, removed or swapped with their neighbour to make one word of the other. */
const distance = (a: string, b: string): number => {
  let before: Array<number> = []
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + (same ? 0 : 1),
        swapped ? (before[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY
      )
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}

/** The one of `names` that was probably meant; `undefined` where none is near. */
export const nearest = (given: string, names: Iterable<string>): string | undefined => {
  const wanted = given.toLowerCase().replaceAll(/[_-]/g, "")
  let best: string | undefined
  let least = Math.max(1, Math.floor(given.length / 3)) + 1
  for (const name of names) {
    const away = distance(wanted, name.toLowerCase())
    if (away < least) [best, least] = [name, away]
  }
  return best
}

export const didYouMean = (given: string, names: Iterable<string>): string => {
  const name = nearest(given, names)
  return name === undefined ? "" : `; did you mean "${name}"?`
}
