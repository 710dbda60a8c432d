import { randomFillSync } from "node:crypto"

/** What an id names: event, run, approval, job, delivery, token, start of the gateway, message and dead letter of the push service. */
export type IdPrefix = "evt" | "run" | "apr" | "job" | "dlv" | "tok" | "start" | "msg" | "dead"

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
const TIME_DIGITS = 10
const RANDOM_DIGITS = 8
const RANDOM_SPACE = 32 ** RANDOM_DIGITS

const encode = (value: number, digits: number): string => {
  let text = ""
  for (let rest = value, i = 0; i < digits; i++) {
    text = ALPHABET[rest % 32] + text
    rest = Math.floor(rest / 32)
  }
  return text
}

const decode = (text: string): number => [...text].reduce((value, digit) => value * 32 + ALPHABET.indexOf(digit), 0)

/** 48 bits of milliseconds. */
const LAST = 2 ** 48 - 1

/** What ids made at this instant, or later, are not less than. */
export const firstIdAt = (prefix: IdPrefix, millis: number): string =>
  `${prefix}_${encode(Math.min(Math.max(0, Math.floor(millis)), LAST), 10)}`

const pool = new Uint8Array(4096)
let used = pool.length

/** 40 random bits, drawn from the operating system a page at a time. */
const random40 = (): number => {
  if (used + 5 > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  let value = 0
  for (let i = 0; i < 5; i++) value = value * 256 + (pool[used++] as number)
  return value
}

/**
 * Makes ULIDs (48 bits of Unix milliseconds, 80 random bits) behind a prefix, such as
 * `evt_01k8q2v5w3xk4t7a9b1c2d3e4f`. Ids of one generator sort by the order they were made in, also within a millisecond;
 * and after `last`, the last one of an earlier generator, whatever the clock says by now.
 */
export const makeIds = (last?: string): ((prefix: IdPrefix, nowMillis: number) => string) => {
  let time = last === undefined ? -1 : decode(last.slice(last.indexOf("_") + 1).slice(0, TIME_DIGITS))
  let head = ""
  // None is left of the first millisecond: it is the last one's.
  let tail = RANDOM_SPACE
  return (prefix, nowMillis) => {
    if (nowMillis > time || tail + 1 >= RANDOM_SPACE) {
      time = Math.max(nowMillis, time + 1)
      head = encode(time, TIME_DIGITS) + encode(random40() % RANDOM_SPACE, RANDOM_DIGITS)
      tail = random40() % (RANDOM_SPACE / 2)
    }
    tail += 1
    return `${prefix}_${head}${encode(tail, RANDOM_DIGITS)}`
  }
}
