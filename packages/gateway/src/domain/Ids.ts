import { randomFillSync } from "node:crypto"

/** What an id names: event, run, approval, job, delivery, token, start of the gateway. */
export type IdPrefix = "evt" | "run" | "apr" | "job" | "dlv" | "tok" | "start"

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
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
 * `evt_01k8q2v5w3xk4t7a9b1c2d3e4f`. Ids of one generator sort by the order they were made in, also within a millisecond.
 */
export const makeIds = (): ((prefix: IdPrefix, nowMillis: number) => string) => {
  let time = -1
  let head = ""
  let tail = 0
  return (prefix, nowMillis) => {
    if (nowMillis > time || tail + 1 >= RANDOM_SPACE) {
      time = Math.max(nowMillis, time + 1)
      head = encode(time, 10) + encode(random40() % RANDOM_SPACE, RANDOM_DIGITS)
      tail = random40() % (RANDOM_SPACE / 2)
    }
    tail += 1
    return `${prefix}_${head}${encode(tail, RANDOM_DIGITS)}`
  }
}
