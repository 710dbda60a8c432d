import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { refusalOf } from "../src/AddressPolicy.ts"
import * as OutboundHttp from "../src/OutboundHttp.ts"
import { receiver } from "./Receiver.ts"

describe("X13: the addresses a callback may have", () => {
  it.each(["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1"])(
    "%s: yes",
    (ip) => {
      expect(refusalOf(ip, false)).toBeUndefined()
      expect(refusalOf(ip, true)).toBeUndefined()
    }
  )
  it.each([
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd12::1"
  ])("%s: only where the configuration says so", (ip) => {
    expect(refusalOf(ip, false)).toContain("private or loopback; set `allowPrivate: true`")
    expect(refusalOf(ip, true)).toBeUndefined()
  })
  it.each([
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:db8::1",
    "not an address"
  ])("%s: never", (ip) => {
    expect(refusalOf(ip, false)).toBeDefined()
    expect(refusalOf(ip, true)).toBeDefined()
  })
})

describe("X13: a name", () => {
  const postTo = (url: string, allowPrivate: boolean, ...addresses: ReadonlyArray<string>) => {
    const asked: Array<string> = []
    const resolve = (host: string) => {
      asked.push(host)
      return Promise.resolve(addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })))
    }
    return OutboundHttp.post({
      url: new URL(url),
      headers: {},
      body: "{}",
      allowPrivate,
      timeoutMs: 5_000,
      maxAnswerBytes: 10
    }).pipe(
      Effect.provideService(OutboundHttp.Resolver, resolve),
      Effect.either,
      Effect.map((result) => ({ result, asked }))
    )
  }

  it.scopedLive("is resolved once, and the connection goes to the address that was checked", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver()
      const named = url.replace("127.0.0.1", "rebound.invalid")
      const { asked, result } = yield* postTo(named, true, "127.0.0.1")
      expect(result).toMatchObject({ right: { status: 204 } })
      expect(asked).toEqual(["rebound.invalid"])
      expect(received[0]?.headers.host).toBe(new URL(named).host)
    })
  )

  it.scopedLive("is not sent to when one of its addresses is not to be reached", () =>
    Effect.gen(function* () {
      const { received, url } = yield* receiver()
      const named = url.replace("127.0.0.1", "rebound.invalid")
      for (const [allowPrivate, ...addresses] of [
        [false, "127.0.0.1"],
        [false, "8.8.8.8", "127.0.0.1"],
        [true, "127.0.0.1", "169.254.169.254"],
        [true, "::ffff:127.0.0.1"]
      ] as const) {
        const { result } = yield* postTo(named, allowPrivate, ...addresses)
        expect(result).toMatchObject({
          left: { outcome: "rejected", message: expect.stringContaining("is not sent to") }
        })
      }
      expect(received).toEqual([])
    })
  )
})
