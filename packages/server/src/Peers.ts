import { BlockList, isIP } from "node:net"

/** A subnet such as `10.0.0.0/8`, or one address; `undefined` when it is neither. */
const subnetOf = (text: string): { readonly network: string; readonly prefix: number } | undefined => {
  const [network = "", given, ...rest] = text.split("/")
  const bits = isIP(network) === 4 ? 32 : 128
  const prefix = given === undefined ? bits : /^\d{1,3}$/.test(given) ? Number(given) : -1
  return isIP(network) === 0 || rest.length > 0 || prefix < 0 || prefix > bits ? undefined : { network, prefix }
}

export const isSubnet = (text: string): boolean => subnetOf(text) !== undefined

const familyOf = (address: string) => (isIP(address) === 4 ? "ipv4" : "ipv6")

/** An address without its interface; one of IPv4 that is written as one of IPv6 is the one of IPv4. Empty: it is none. */
export const plain = (address: string): string => {
  const bare = address.split("%", 1)[0] ?? ""
  const [, v4] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare) ?? []
  if (v4 !== undefined && isIP(v4) === 4) return v4
  const [, high, low] = /^(?:::|(?:0{1,4}:){5})ffff:([\da-f]{1,4}):([\da-f]{1,4})$/i.exec(bare) ?? []
  if (high !== undefined && low !== undefined) {
    const [upper, lower] = [Number.parseInt(high, 16), Number.parseInt(low, 16)]
    return [upper >> 8, upper & 255, lower >> 8, lower & 255].join(".")
  }
  return isIP(bare) === 0 ? "" : bare
}

/** The eight groups of an IPv6 address. */
const groupsOf = (address: string): ReadonlyArray<string> => {
  const [head = "", tail] = address.split("::")
  const left = head === "" ? [] : head.split(":")
  if (tail === undefined) return left
  const right = tail === "" ? [] : tail.split(":")
  // One that ends as IPv4 is written has two groups in its last part.
  const length = left.length + right.length + (right.at(-1)?.includes(".") === true ? 1 : 0)
  return [...left, ...Array.from({ length: 8 - length }, () => "0"), ...right]
}

/** What failed attempts are counted by: an IPv4 address, or the 64 bits of an IPv6 one that its holder did not choose. */
export const sourceOf = (address: string): string => {
  const bare = plain(address)
  if (isIP(bare) !== 6) return bare
  const groups = groupsOf(bare).slice(0, 4)
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`
}

/** Who sent a request that came from the address `peer`. */
export type PeerOf = (peer: string, forwardedFor: string | undefined) => string

/**
 * A proxy's `X-Forwarded-For` counts only where the proxy is one of `trusted`, and then from its end: up to the first address
 * that is not a trusted proxy's, since everything before that one is what somebody claimed.
 */
export const makePeerOf = (trusted: ReadonlyArray<string>): PeerOf => {
  const proxies = new BlockList()
  for (const text of trusted) {
    const subnet = subnetOf(text)
    if (subnet !== undefined) proxies.addSubnet(subnet.network, subnet.prefix, familyOf(subnet.network))
  }
  const isProxy = (address: string): boolean => isIP(address) !== 0 && proxies.check(address, familyOf(address))
  return (peer, forwardedFor) => {
    let client = plain(peer)
    if (trusted.length === 0 || forwardedFor === undefined) return client
    for (const hop of forwardedFor.split(",").reverse()) {
      const next = plain(hop.trim())
      if (next === "" || !isProxy(client)) return client
      client = next
    }
    return client
  }
}
