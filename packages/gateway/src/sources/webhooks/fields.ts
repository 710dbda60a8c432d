/** What stands at this path of a JSON value, or `undefined`. */
export const fieldOf = (value: unknown, ...path: ReadonlyArray<string>): unknown => {
  let found = value
  for (const key of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined
    found = Reflect.get(found, key)
  }
  return found
}

/** `fieldOf`, when it is a text that is not empty. */
export const textOf = (value: unknown, ...path: ReadonlyArray<string>): string | undefined => {
  const found = fieldOf(value, ...path)
  return typeof found === "string" && found !== "" ? found : undefined
}
