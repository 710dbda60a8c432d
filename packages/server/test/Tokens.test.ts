import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, Gateway, Store } from "@postilion/gateway"
import { Effect, Either, Layer, Redacted, TestClock } from "effect"
import type { Principal } from "../src/Principal.ts"
import { SCOPES } from "../src/Scopes.ts"
import * as Tokens from "../src/Tokens.ts"
import { ADA, as, request, say, server, tempDir } from "./Support.ts"

const post = (body: unknown, token = ADA) =>
  request("/tokens", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body)
  })
const revoke = (id: unknown, token = ADA) => request(`/tokens/${id}`, { ...as(token), method: "DELETE" })
const status = (token: string) => Effect.map(request("/status", as(token)), ({ status }) => status)

const ada: Principal = { name: "ada", scopes: ["operator"], tokenId: "config:ada" }
const holding = (...scopes: Principal["scopes"]): Principal => ({ name: "bob", scopes, tokenId: "tok_bob" })
const tokens = Tokens.layer.pipe(Layer.provideMerge(Gateway.layerTest()))

describe("a token made at run time", () => {
  it.scoped("is told once, counts at once, and is kept as a hash alone", () =>
    Effect.gen(function* () {
      const answer = yield* post({ name: "bob", scopes: ["client"] })
      expect(answer).toMatchObject({
        status: 201,
        body: { name: "bob", scopes: ["client"], createdBy: "ada", expiresAt: null, revokedAt: null }
      })
      expect(answer.headers.get("cache-control")).toBe("no-store")
      const { id, token } = answer.body as { id: string; token: string }
      expect(token).toMatch(/^pst_[0-9a-z]{26}_[\w-]{43}$/)
      expect(yield* say({ text: "hello" }, token)).toMatchObject({ status: 200 })
      expect(yield* status(token)).toBe(403)
      const listed = yield* request("/tokens", as(ADA))
      expect(listed.body.tokens).toMatchObject([{ id, name: "bob" }])
      const [row] = yield* (yield* Store).find("tokens", {})
      const records = JSON.stringify([row, yield* (yield* AuditLog).query(), listed.body])
      expect(records).not.toContain(token.slice(-43))
      expect(row?.hash).toBe(Tokens.digest(token).toString("hex"))
      for (const other of [
        `${token}x`,
        token.slice(0, -1),
        `${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`
      ]) {
        expect(yield* status(other)).toBe(401)
      }
      expect(yield* (yield* AuditLog).query({ kind: "token.created" })).toMatchObject([
        { data: { id, name: "bob", scopes: ["client"], by: "ada" } }
      ])
    }).pipe(Effect.provide(server({ accessControl: { allowedSenders: ["bob"] } })))
  )

  it.scoped("is refused when it is none, with what it is", () =>
    Effect.gen(function* () {
      const wrong = [
        {},
        { name: "", scopes: ["client"] },
        { name: "bob", scopes: [] },
        { name: "bob", scopes: ["root"] },
        { name: "bob", scopes: ["client"], expiresInSeconds: 0 },
        { name: "bob", scopes: ["client"], expiresInSeconds: 1.5 }
      ]
      for (const body of wrong) {
        expect(yield* post(body)).toMatchObject({ status: 422, body: { detail: expect.stringMatching(/^a token is/) } })
      }
      expect((yield* request("/tokens", as(ADA))).body).toEqual({ tokens: [] })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X4: CVE-2026-28466: who made it, and what it is called, is not for the body to say", () =>
    Effect.gen(function* () {
      for (const more of [
        { id: "tok_1" },
        { token: "mine" },
        { createdBy: "eve" },
        { approved: true },
        { operator: true }
      ]) {
        expect((yield* post({ name: "bob", scopes: ["client"], ...more })).status).toBe(422)
      }
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X8: is for no more than the token that made it", () =>
    Effect.gen(function* () {
      const service = yield* Tokens.Tokens
      for (const held of SCOPES) {
        for (const scope of SCOPES) {
          const made = yield* Effect.either(service.create(holding(held), { name: "eve", scopes: [scope] }))
          expect(Either.isRight(made), `${held} makes ${scope}`).toBe(held === "operator" || held === scope)
        }
      }
      const mixed = yield* Effect.flip(
        service.create(holding("client", "viewer"), { name: "eve", scopes: ["client", "operator"] })
      )
      expect(mixed).toMatchObject({
        _tag: "Denied",
        reason: "not-allowed",
        message: expect.stringContaining("operator")
      })
    }).pipe(Effect.provide(tokens))
  )

  it.scoped("X8: nor for longer", () =>
    Effect.gen(function* () {
      const { body: hour } = yield* post({ name: "temp", scopes: ["operator"], expiresInSeconds: 3_600 })
      const token = String(hour.token)
      expect((yield* post({ name: "temp", scopes: ["operator"], expiresInSeconds: 3_601 }, token)).status).toBe(403)
      const { body: heir } = yield* post({ name: "temp", scopes: ["viewer"] }, token)
      expect(heir.expiresAt).toBe(hour.expiresAt)
      yield* TestClock.adjust("30 minutes")
      expect((yield* post({ name: "temp", scopes: ["viewer"], expiresInSeconds: 1_801 }, token)).status).toBe(403)
      expect((yield* post({ name: "temp", scopes: ["viewer"], expiresInSeconds: 1_800 }, token)).status).toBe(201)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X8: and a lesser one makes none at all", () =>
    Effect.gen(function* () {
      for (const scope of ["agent", "client", "viewer"]) {
        const { body } = yield* post({ name: "bob", scopes: [scope] })
        const token = String(body.token)
        for (const asked of SCOPES) expect((yield* post({ name: "bob", scopes: [asked] }, token)).status).toBe(403)
        expect((yield* revoke(body.id, token)).status).toBe(403)
        expect((yield* request("/tokens", as(token))).status).toBe(403)
      }
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X9: once revoked does not count, from the next request on", () =>
    Effect.gen(function* () {
      const { body } = yield* post({ name: "vera", scopes: ["viewer"] })
      const token = String(body.token)
      expect(yield* status(token)).toBe(200)
      expect(yield* revoke(body.id)).toMatchObject({ status: 200, body: { revokedBy: "ada" } })
      expect(yield* status(token)).toBe(401)
      expect((yield* revoke(body.id)).body).toMatchObject({ revokedBy: "ada" })
      expect(yield* (yield* AuditLog).query({ kind: "token.revoked" })).toMatchObject([
        { data: { id: body.id, by: "ada" } }
      ])
      for (const id of ["tok_none", "config:ada"]) expect((yield* revoke(id)).status, id).toBe(404)
      expect(yield* status(ADA)).toBe(200)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X9: a revocation that cannot be written is refused, and the token counts as before", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { body } = yield* post({ name: "vera", scopes: ["viewer"] })
      yield* sql`CREATE TRIGGER full BEFORE UPDATE ON tokens BEGIN SELECT RAISE(ABORT, 'disk full'); END`
      expect(yield* revoke(body.id)).toMatchObject({ status: 503, body: { reason: "storage" } })
      expect(yield* status(String(body.token))).toBe(200)
      yield* sql`DROP TRIGGER full`
      expect((yield* revoke(body.id)).status).toBe(200)
      expect(yield* status(String(body.token))).toBe(401)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X9: whoever lives by it is told when it is revoked and when it expires, after the records say so", () =>
    Effect.gen(function* () {
      const service = yield* Tokens.Tokens
      const ended: Array<string> = []
      yield* service.onEnd((id) => ended.push(id))
      const make = (expiresInSeconds?: number) =>
        Effect.map(service.create(ada, { name: "bob", scopes: ["client"], expiresInSeconds }), ({ made, token }) => ({
          id: made.id,
          token: Redacted.value(token)
        }))
      const long = yield* make(7_200)
      const short = yield* make(90)
      const kept = yield* make()
      yield* TestClock.adjust("89 seconds")
      expect(ended).toEqual([])
      expect(service.find(short.token, 89_999)?.name).toBe("bob")
      expect(service.find(short.token, 90_000)).toBeUndefined()
      yield* TestClock.adjust("1 second")
      expect(ended).toEqual([short.id])
      yield* service.revoke(kept.id, "ada")
      expect(ended).toEqual([short.id, kept.id])
      yield* TestClock.adjust("2 hours")
      expect(ended).toEqual([short.id, kept.id, long.id])
      expect(service.count(7_290_000)).toBe(0)
    }).pipe(Effect.provide(tokens))
  )

  it.scoped("is known again after a restart, unless it was revoked", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const made = yield* Effect.gen(function* () {
        const { body: kept } = yield* post({ name: "vera", scopes: ["viewer"] })
        const { body: gone } = yield* post({ name: "vera", scopes: ["viewer"] })
        yield* revoke(gone.id)
        return { kept: String(kept.token), gone: String(gone.token) }
      }).pipe(Effect.provide(server({ storage })))
      // It is also a token by which other machines may be let in.
      yield* Effect.gen(function* () {
        expect(yield* status(made.kept)).toBe(200)
        expect(yield* status(made.gone)).toBe(401)
      }).pipe(Effect.provide(server({ storage, tokens: {}, host: "0.0.0.0" })))
    })
  )
})
