import { Duration, Option } from "effect"
import type { Shape } from "./Shape.ts"
import { keysOf } from "./Shape.ts"

/** Another way to write a key: the path it stands for, and how its value is read. */
export interface Spelling {
  readonly path: ReadonlyArray<string>
  readonly unit: "as-is" | "seconds" | "duration"
  /** Whether the file should rather have the key itself. */
  readonly discouraged: boolean
}

/** What Praison's gateway calls keys that are elsewhere here. */
const ELSEWHERE: Readonly<Record<string, readonly [path: ReadonlyArray<string>, unit: Spelling["unit"]]>> = {
  authToken: [["tokens", "operator"], "as-is"],
  maxConnections: [["webSocket", "maxConnections"], "as-is"],
  heartbeatInterval: [["webSocket", "heartbeatIntervalMs"], "seconds"],
  reconnectTimeout: [["webSocket", "reconnectTimeoutMs"], "seconds"],
  sslCert: [["ssl", "cert"], "as-is"],
  sslKey: [["ssl", "key"], "as-is"]
}

const camel = (key: string): string => key.replaceAll(/_+([a-z\d])/gi, (_, letter: string) => letter.toUpperCase())

/** What a key that the shape does not have stands for, if anything. */
export const spellingOf = (key: string, shape: Shape | undefined, isTop: boolean): Spelling | undefined => {
  const keys = keysOf(shape)
  if (keys.has(key)) return undefined
  const plain = camel(key)
  const discouraged = plain !== key
  if (keys.has(plain)) return { path: [plain], unit: "as-is", discouraged: true }
  if (plain === "agent" && keys.has("agentId")) return { path: ["agentId"], unit: "as-is", discouraged }
  if (keys.has(`${plain}Ms`)) return { path: [`${plain}Ms`], unit: "duration", discouraged }
  const moved = isTop && Object.hasOwn(ELSEWHERE, plain) ? ELSEWHERE[plain] : undefined
  return moved === undefined ? undefined : { path: moved[0], unit: moved[1], discouraged: true }
}

const UNITS = {
  ms: "millis",
  milli: "millis",
  millisecond: "millis",
  s: "seconds",
  sec: "seconds",
  second: "seconds",
  m: "minutes",
  min: "minutes",
  minute: "minutes",
  h: "hours",
  hr: "hours",
  hour: "hours",
  d: "days",
  day: "days",
  w: "weeks",
  week: "weeks"
} as const

/** Milliseconds of `30 minutes`, `1.5 h`, `90s`. */
export const millisOf = (text: string): number | undefined => {
  const [, amount, name = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(text.trim()) ?? []
  const singular = name.toLowerCase().replace(/(?<=.{2})s$/, "")
  const unit = Object.hasOwn(UNITS, singular) ? UNITS[singular as keyof typeof UNITS] : undefined
  if (unit === undefined) return undefined
  return Option.getOrUndefined(Option.map(Duration.decodeUnknown(`${amount} ${unit}`), Duration.toMillis))
}
