import { createHmac, timingSafeEqual } from "node:crypto"

export type HmacAlgorithm = "sha256" | "sha384" | "sha512"

const encoder = new TextEncoder()

/** The HMAC of `signed`, one part after the other. */
export const hmac = (
  algorithm: HmacAlgorithm,
  secret: string,
  signed: ReadonlyArray<string | Uint8Array>,
  encoding: "hex" | "base64"
): string => {
  const mac = createHmac(algorithm, secret)
  for (const part of signed) mac.update(part)
  return mac.digest(encoding)
}

/** Compares two texts in a time that does not tell where they differ. */
export const equalInConstantTime = (a: string, b: string): boolean => {
  const left = encoder.encode(a)
  const right = encoder.encode(b)
  return left.length === right.length && timingSafeEqual(left, right)
}
