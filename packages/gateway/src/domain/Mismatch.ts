import { ParseResult } from "effect"

const EXPECTED = /^Expected (.*), actual .*$/s

/** How something does not fit what was declared: the first place where it does not, and what may stand there. */
export const describe = (error: ParseResult.ParseError): string => {
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  const [first] = issues
  if (first === undefined) return error.message
  const place = first.path.join(".")
  // Of several things that may stand there, each says that it does not.
  const expected = issues
    .filter(({ path }) => path.join(".") === place)
    .flatMap(({ message }) => EXPECTED.exec(message)?.[1] ?? [])
    .filter((one) => one !== "undefined")
  const message =
    expected.length > 1 && EXPECTED.test(first.message)
      ? first.message.replace(EXPECTED, (all) => all.replace(expected[0] ?? "", [...new Set(expected)].join(" or ")))
      : first.message
  return `${place} ${message}`.trim()
}
