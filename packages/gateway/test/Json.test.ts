import { canonicalize, findNonJson, isPlainJson } from "@postilion/gateway/domain/Json"
import { FastCheck as fc } from "effect"
import { describe, expect, it } from "vitest"
import vectors from "./fixtures/jcs.json" with { type: "json" }

/** A double from the hex of its bits. */
const ofBits = (hex: string): number => {
  const view = new DataView(new ArrayBuffer(8))
  view.setBigUint64(0, BigInt(`0x${hex}`))
  return view.getFloat64(0)
}
const nested = (levels: number, around: (child: unknown) => unknown): unknown => {
  let value: unknown = 1
  for (let i = 0; i < levels; i++) value = around(value)
  return value
}

describe("canonicalize, by the vectors of RFC 8785", () => {
  for (const { input, name, outHex, output } of vectors.documents) {
    it(name, () => {
      expect(canonicalize(JSON.parse(input))).toBe(output)
      expect(Buffer.from(canonicalize(JSON.parse(input))).toString("hex")).toBe(outHex)
    })
  }
  it("numbers", () => {
    expect(vectors.numbers.length).toBeGreaterThan(20)
    for (const { expected, ieee } of vectors.numbers) {
      if (Number.isFinite(ofBits(ieee)))
        expect({ ieee, text: canonicalize(ofBits(ieee)) }).toEqual({ ieee, text: expected })
    }
  })
})

describe("canonicalize", () => {
  it("is a fixed point, reads back as the same value, and does not depend on the order of keys", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        const value: unknown = JSON.parse(JSON.stringify(json))
        const text = canonicalize(value)
        expect(JSON.parse(text)).toEqual(value)
        expect(canonicalize(JSON.parse(text))).toBe(text)
        const reversed: unknown = JSON.parse(JSON.stringify(value), (_, child: unknown) =>
          typeof child === "object" && child !== null && !Array.isArray(child)
            ? Object.fromEntries(Object.entries(child).reverse())
            : child
        )
        expect(canonicalize(reversed)).toBe(text)
      })
    )
  })

  it("any name is written as JSON.stringify writes it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (name) => {
        expect(canonicalize({ [name]: 1 })).toBe(JSON.stringify({ [name]: 1 }))
      })
    )
    expect(canonicalize(JSON.parse('{"__proto__":1,"constructor":2}'))).toBe('{"__proto__":1,"constructor":2}')
  })

  it("sorts by UTF-16 code units, not by code points", () => {
    expect(canonicalize({ "\ufb33": 1, "\u{1f600}": 2 })).toBe('{"\u{1f600}":2,"\ufb33":1}')
  })

  it("leaves out what is undefined, as JSON does", () => {
    expect(canonicalize({ a: undefined, b: [undefined] })).toBe('{"b":[null]}')
  })
})

describe("findNonJson", () => {
  const cases: ReadonlyArray<readonly [unknown, path: string, kind: string]> = [
    [1n, "$", "bigint"],
    [{ a: { b: [1, 2n] } }, "$.a.b[1]", "bigint"],
    [{ a: () => 1 }, "$.a", "function"],
    [[Symbol("s")], "$[0]", "symbol"],
    [{ a: Number.NaN }, "$.a", "NaN"],
    [{ a: Number.POSITIVE_INFINITY }, "$.a", "Infinity"]
  ]
  for (const [value, path, kind] of cases) {
    it(`names ${kind} at ${path}`, () => {
      expect(findNonJson(value)).toEqual({ path, kind })
      expect(isPlainJson(value)).toBe(false)
    })
  }

  it("carries what JSON carries, and what says how it is to be carried", () => {
    for (const value of [null, "a", true, 0, [], {}, undefined, { a: undefined }, new Date(0), { d: new Date(0) }]) {
      expect(findNonJson(value)).toBeUndefined()
    }
  })

  it("a cycle, and a depth that would exhaust the stack, end at a depth it names", () => {
    const cycle: Record<string, unknown> = {}
    cycle.self = { cycle }
    for (const deep of [cycle, nested(10_000, (child) => [child]), nested(201, (child) => ({ child }))]) {
      expect(findNonJson(deep)?.kind).toBe("more than 200 levels, or a cycle,")
      expect(isPlainJson(deep)).toBe(false)
    }
    for (const fine of [nested(200, (child) => [child]), nested(200, (child) => ({ child }))]) {
      expect(findNonJson(fine)).toBeUndefined()
      expect(isPlainJson(fine)).toBe(true)
    }
  })
})

describe("isPlainJson", () => {
  it("is true only of what JSON gives back as it was", () => {
    fc.assert(
      fc.property(
        fc.anything({ withDate: true, withBigInt: true, withSparseArray: true, withNullPrototype: true }),
        (value) => {
          if (!isPlainJson(value)) return
          expect(JSON.parse(JSON.stringify(value))).toEqual(normal(value))
          expect(findNonJson(value)).toBeUndefined()
        }
      ),
      { numRuns: 1_000 }
    )
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(isPlainJson(value)).toBe(true)
      })
    )
  })

  it("is false of class instances, dates and maps", () => {
    for (const value of [new Date(), new Map(), new Set(), /x/, new (class A {})(), { toJSON: () => 1 }]) {
      expect(isPlainJson(value)).toBe(false)
    }
  })
})

/** -0 is 0 in JSON, and an object without a prototype is one with. */
const normal = (value: unknown): unknown => {
  if (typeof value === "number") return value + 0
  if (Array.isArray(value)) return value.map(normal)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, normal(child)]))
}
