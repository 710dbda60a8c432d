import type { Call, Params, Result } from "@postilion/client/Protocol"
import { GatewayService, KillSwitch, SessionStore, Store } from "@postilion/gateway"
import { tagProblem } from "@postilion/gateway/domain/BusEvent"
import { Effect } from "effect"
import type { AccessShape } from "../Access.ts"
import { isOpenTo } from "../Conversations.ts"
import { OutsideAgents } from "../OutsideAgents.ts"
import { Push } from "../push/Push.ts"
import * as AgentMethods from "./AgentMethods.ts"
import { type Connection, frameOf } from "./Connection.ts"
import type { EventFeed } from "./EventFeed.ts"
import * as PushMethods from "./PushMethods.ts"
import { Refusal, refused } from "./Refusal.ts"
import { answerOf, CHANNEL, type Room, type Rooms, type SessionName, sessionKeyOf, targetOf } from "./Rooms.ts"

/** What a method comes to: at once, or by an Effect that is run. */
export type Outcome<A> = A | Refusal | Effect.Effect<A, Refusal>

export type Handlers = {
  readonly [M in Call]: (connection: Connection, params: Params<M>) => Outcome<Result<M>>
}

export interface MethodOptions {
  readonly access: Pick<AccessShape, "allows">
  readonly rooms: Rooms
  readonly feed: EventFeed
  readonly connections: { readonly size: number; readonly values: () => Iterable<Connection> }
  readonly agents: () => ReadonlyArray<string>
  readonly maxSessions: number
  readonly now: () => number
}

/** Answers told to who comes back are read in pages of so many. */
const PAGE = 200

/** What each method does. Which connection may call which is asked before. */
export const make = ({ access, agents, connections, feed, maxSessions, now, rooms }: MethodOptions) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const sessions = yield* SessionStore
    const killSwitch = yield* KillSwitch
    const store = yield* Store
    const push = yield* Push
    const outside = yield* OutsideAgents

    const nameOf = (
      connection: Connection,
      ref: { readonly session: string; readonly owner?: string | undefined }
    ): SessionName => ({
      owner: ref.owner ?? connection.principal.name,
      session: ref.session
    })
    const isIn = (connection: Connection, name: SessionName): boolean =>
      rooms.find(name)?.members.has(connection) === true
    /** The same for a session that there is and one that there is not: whose sessions there are is nobody else's business. */
    const notYours = ({ owner, session }: SessionName): Refusal =>
      new Refusal({ code: "forbidden", message: `session "${session}" of ${owner} is not open to you` })
    const enter = (connection: Connection, name: SessionName): Room | Refusal => {
      if (!isIn(connection, name)) {
        if (!rooms.mayEnter(name, connection.principal.name)) return notYours(name)
        if (connection.rooms.size >= maxSessions) {
          const message = `a connection may have joined ${maxSessions} sessions (webSocket.maxSessions)`
          return new Refusal({ code: "too-many-sessions", message })
        }
      }
      return rooms.enter(name, connection)
    }
    const answersAfter = (name: SessionName, seq: number) =>
      store.find("deliveries", {
        // What is being sent reaches who is in the session now, or had already: it is told, and not told again.
        where: { channel: CHANNEL, target: targetOf(name), state: { in: ["sending", "sent"] }, seq: { gt: seq } },
        orderBy: ["seq", "asc"],
        limit: PAGE
      })
    const drained = (connection: Connection) =>
      Effect.async<void>((resume) => connection.drained(() => resume(Effect.void)))
    /** Tells a member the answers after `since`, no faster than they are read; what is answered meanwhile waits behind them. */
    const replay = (room: Room, connection: Connection, since: number) =>
      Effect.gen(function* () {
        const told = new Set<string>()
        for (let after = since, more = true; more; ) {
          const rows = yield* answersAfter(room.name, after)
          for (const row of rows) {
            const { agent_id: agentId, created_at, event_id: eventId, id, outcome, seq, text } = row
            const answer = { id, seq, agentId, eventId, outcome, text, preparedAt: new Date(created_at) }
            connection.tell(answerOf(room.name, answer).frame)
            told.add(id)
            if (connection.isFull()) yield* drained(connection)
          }
          after = rows.at(-1)?.seq ?? after
          more = rows.length === PAGE
          if (more) yield* drained(connection)
        }
        return told
      }).pipe(
        Effect.tap((told) => Effect.sync(() => room.caughtUp(connection, told))),
        Effect.tapErrorCause(() => Effect.sync(() => room.caughtUp(connection, new Set())))
      )

    const handlers: Handlers = {
      ping: (connection, { seq }) => {
        if (seq !== undefined) connection.arrived(seq)
        return { seq: connection.seq }
      },
      "session.join": (connection, { invite = [], since, ...ref }) => {
        const name = nameOf(connection, ref)
        if (invite.length > 0 && name.owner !== connection.principal.name) return notYours(name)
        const room = enter(connection, name)
        if (room instanceof Refusal) return room
        for (const principal of invite) room.invite(principal)
        if (since !== undefined) room.catchUp(connection)
        return refused(
          Effect.gen(function* () {
            const [last] = yield* store.find("deliveries", {
              // What still waits to be sent comes after it.
              where: { channel: CHANNEL, target: targetOf(name), state: "sent" },
              orderBy: ["seq", "desc"],
              limit: 1
            })
            if (since !== undefined) yield* replay(room, connection, since)
            const members = [...room.members].map(({ principal, role }) => ({ principal: principal.name, role }))
            return { ...name, members, cursor: last?.seq ?? 0 }
          })
        )
      },
      "session.leave": (connection, ref) => {
        const room = rooms.find(nameOf(connection, ref))
        if (room !== undefined) rooms.leave(room, connection)
        return {}
      },
      "session.send": (connection, { agentId, id, text, ...ref }) => {
        const name = nameOf(connection, ref)
        const room = enter(connection, name)
        if (room instanceof Refusal) return room
        const sender = connection.principal.name
        const target = targetOf(name)
        return refused(
          Effect.map(
            gateway.submit({
              source: "channel",
              payload: { text },
              metadata: { channel: CHANNEL, chatId: name.session, type: "message", context: room.context },
              sender,
              agentId,
              sessionKey: sessionKeyOf(name),
              replyTo: { channel: CHANNEL, target },
              idempotencyKey: `${CHANNEL}:${JSON.stringify([sender, target, id])}`
            }),
            ({ decision, duplicate, eventId }) => {
              if (!duplicate) {
                const at = new Date(now()).toISOString()
                room.tell(
                  frameOf("MESSAGE", { ...name, id, role: "user", from: sender, text, eventId, at }),
                  connection
                )
              }
              return { eventId, duplicate, decision: decision ?? null }
            }
          )
        )
      },
      "session.history": (connection, { turns, ...ref }) => {
        const name = nameOf(connection, ref)
        if (name.owner !== connection.principal.name && !isIn(connection, name)) return notYours(name)
        return refused(
          Effect.map(sessions.history(sessionKeyOf(name), turns === undefined ? {} : { turns }), (found) => ({
            turns: found.map((turn) => ({ ...turn, at: turn.at.toISOString() }))
          }))
        )
      },
      "run.abort": ({ principal }, { id }) => {
        const allowed = isOpenTo(access, principal, "run.abort.any")
        return refused(
          Effect.map(gateway.abort(id, { by: principal.name, allowed }), ({ event, run }) => ({
            eventId: event.id,
            runId: run?.id ?? id
          }))
        )
      },
      broadcast: ({ principal }, { text }) => {
        const frame = frameOf("BROADCAST", { from: principal.name, text, at: new Date(now()).toISOString() })
        for (const connection of connections.values()) connection.tell(frame)
        return { connections: connections.size }
      },
      "events.subscribe": (connection, params) => {
        const problem = tagProblem(params.filter?.types ?? [])
        if (problem !== undefined) return new Refusal({ code: "invalid-params", message: `filter.types: ${problem}` })
        feed.subscribe(connection, params)
        return { cursor: feed.cursor }
      },
      "events.unsubscribe": (connection) => {
        feed.unsubscribe(connection)
        return {}
      },
      "approvals.list": () =>
        refused(Effect.map(gateway.approvals, (approvals) => ({ approvals: approvals.map((one) => ({ ...one })) }))),
      "approvals.approve": ({ principal }, { digest, id }) =>
        refused(
          Effect.map(gateway.approve(id, principal.name, digest === undefined ? {} : { digest }), (one) => ({ ...one }))
        ),
      "approvals.deny": ({ principal }, { id }) =>
        refused(Effect.map(gateway.deny(id, principal.name), (one) => ({ ...one }))),
      status: () => Effect.map(gateway.status(), (status) => ({ ...status, connections: connections.size })),
      "agents.list": () => ({ agents: agents().map((id) => ({ id, mode: killSwitch.mode(id) })) }),
      ...PushMethods.make(push),
      ...AgentMethods.make(outside, gateway)
    }
    return handlers
  })
