import { BlockList, isIP } from "node:net"

type Subnet = readonly [network: string, prefix: number]

const blockList = (subnets: ReadonlyArray<Subnet>): BlockList => {
  const list = new BlockList()
  for (const [network, prefix] of subnets) list.addSubnet(network, prefix, isIP(network) === 6 ? "ipv6" : "ipv4")
  return list
}

/** Reached only where the configuration says so: this machine, and networks that are nobody else's business. */
const INTERNAL = {
  v4: blockList([
    ["127.0.0.0", 8],
    ["10.0.0.0", 8],
    ["172.16.0.0", 12],
    ["192.168.0.0", 16],
    ["100.64.0.0", 10]
  ]),
  v6: blockList([
    ["::1", 128],
    ["fc00::", 7]
  ])
}

/** Never reached: link-local, where clouds keep their metadata, those metadata's other addresses, and what is no host. */
const NEVER = {
  v4: blockList([
    ["0.0.0.0", 8],
    ["169.254.0.0", 16],
    ["100.100.100.200", 32],
    ["168.63.129.16", 32],
    ["192.0.0.0", 24],
    ["192.0.2.0", 24],
    ["192.88.99.0", 24],
    ["198.18.0.0", 15],
    ["198.51.100.0", 24],
    ["203.0.113.0", 24],
    ["224.0.0.0", 4],
    ["240.0.0.0", 4]
  ]),
  v6: blockList([
    ["fd00:ec2::", 32],
    ["2001::", 23],
    ["2001:db8::", 32],
    ["2002::", 16],
    ["3fff::", 20]
  ])
}
/** All there is of IPv6 that is meant to be reached. Outside it are also the addresses that stand for ones of IPv4. */
const GLOBAL_V6 = blockList([["2000::", 3]])

/**
 * Why a connection to `address` is not made; `undefined`: it may be. `allowPrivate` lets loopback and private ones through, and
 * never link-local, metadata, multicast or reserved ones.
 *
 * The ranges are those of the IANA special-purpose registries (RFC 6890), and the metadata addresses of AWS, Azure and Alibaba.
 */
export const refusalOf = (address: string, allowPrivate: boolean): string | undefined => {
  // A link-local address may name its interface, which the lists do not know.
  const bare = address.split("%", 1)[0] ?? ""
  const version = isIP(bare)
  if (version === 0) return `"${address}" is no address`
  const [lists, family] = version === 4 ? (["v4", "ipv4"] as const) : (["v6", "ipv6"] as const)
  if (NEVER[lists].check(bare, family)) return `${address} is link-local, metadata or reserved`
  if (INTERNAL[lists].check(bare, family)) {
    return allowPrivate ? undefined : `${address} is private or loopback; set \`allowPrivate: true\` if that is meant`
  }
  if (version === 6 && !GLOBAL_V6.check(bare, family)) return `${address} is not a global address`
  return undefined
}
