import { describe, expect, it } from "@effect/vitest"
import * as Attempts from "../src/Attempts.ts"
import { isSubnet, makePeerOf, plain, sourceOf } from "../src/Peers.ts"

describe("an address", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:192.0.2.1", "192.0.2.1"],
    ["::ffff:c000:201", "192.0.2.1"],
    ["0:0:0:0:0:ffff:c000:0201", "192.0.2.1"],
    ["fe80::1%eth0", "fe80::1"],
    ["2001:db8::1", "2001:db8::1"],
    ["localhost", ""],
    ["192.0.2.1:80", ""],
    ["", ""]
  ])("%s is %s", (given, expected) => expect(plain(given)).toBe(expected))

  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:0DB8:0001:0002::9", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["2001:db8:1::192.0.2.1", "2001:db8:1:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"]
  ])("%s counts as %s", (given, expected) => expect(sourceOf(given)).toBe(expected))

  it("or a subnet may be a proxy's", () => {
    for (const text of ["10.0.0.0/8", "10.0.0.1", "::1", "fd00::/8", "0.0.0.0/0"])
      expect(isSubnet(text), text).toBe(true)
    for (const text of ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/-1", "proxy"]) {
      expect(isSubnet(text), text).toBe(false)
    }
  })
})

describe("who sent it", () => {
  const peerOf = makePeerOf(["10.0.0.0/8", "::1"])

  it.each([
    ["a peer that is no proxy, whatever it claims", "192.0.2.1", "203.0.113.9", "192.0.2.1"],
    ["whom a proxy names", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["the last that no proxy of ours is", "10.0.0.1", "198.51.100.7, 203.0.113.9, 10.0.0.2", "203.0.113.9"],
    ["a proxy that names nobody", "10.0.0.1", undefined, "10.0.0.1"],
    ["a proxy whose word is none", "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"],
    ["an address of IPv4 that is written as one of IPv6", "::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"],
    ["whom a proxy of IPv6 names", "::1", "2001:db8::1", "2001:db8::1"]
  ])("is %s", (_, peer, forwarded, expected) => expect(peerOf(peer, forwarded)).toBe(expected))
})

describe("wrong attempts", () => {
  it("are counted by address, for a minute from the first", () => {
    const attempts = Attempts.make(2)
    expect(attempts.blockedFor("192.0.2.1", 0)).toBe(0)
    attempts.failed("192.0.2.1", 0)
    expect(attempts.blockedFor("192.0.2.1", 1)).toBe(0)
    attempts.failed("::ffff:192.0.2.1", 10_000)
    expect(attempts.blockedFor("192.0.2.1", 10_001)).toBe(50)
    expect(attempts.blockedFor("192.0.2.2", 10_001)).toBe(0)
    expect(attempts.blockedFor("192.0.2.1", 59_999)).toBe(1)
    expect(attempts.blockedFor("192.0.2.1", 60_000)).toBe(0)
  })

  it("of more addresses than are remembered: the oldest is forgotten, and the newest count", () => {
    const attempts = Attempts.make(1)
    const address = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`
    for (let n = 0; n <= 10_000; n++) attempts.failed(address(n), n)
    expect(attempts.blockedFor(address(0), 10_001)).toBe(0)
    expect(attempts.blockedFor(address(1), 10_001)).toBeGreaterThan(0)
    expect(attempts.blockedFor(address(10_000), 10_001)).toBe(60)
  })
})
