import type { Channel, Delivery } from "@postilion/gateway"
import { ChannelSendError } from "@postilion/gateway/domain/Errors"
import { Effect, Either, Schema } from "effect"
import { type Connection, type Frame, frameOf } from "./Connection.ts"

/** What routes call the sessions of the control plane. */
export const CHANNEL = "websocket"

/** A session of the control plane: its owner's, by a name. */
export interface SessionName {
  readonly owner: string
  readonly session: string
}

/** Where its answers go. JSON, because no name is ours to forbid a character: two different pairs are never one. */
export const targetOf = ({ owner, session }: SessionName): string => JSON.stringify([owner, session])
/** Its key among all conversations of the gateway. */
export const sessionKeyOf = (name: SessionName): string => `${CHANNEL}:${targetOf(name)}`

const decodeTarget = Schema.decodeUnknownEither(
  Schema.parseJson(Schema.Tuple(Schema.NonEmptyString, Schema.NonEmptyString))
)
/** The session that a target, as `targetOf` writes them, names. */
export const sessionOf = (target: string): SessionName | undefined => {
  const decoded = decodeTarget(target)
  if (Either.isLeft(decoded)) return undefined
  const [owner, session] = decoded.right
  return { owner, session }
}

/** An answer, as its session is told it. */
export interface Answer {
  readonly id: string
  readonly frame: Frame
}

type Answered = Pick<Delivery, "id" | "seq" | "agentId" | "eventId" | "outcome" | "text" | "preparedAt">

export const answerOf = (name: SessionName, answered: Answered): Answer => {
  const { agentId, eventId, id, outcome, preparedAt, seq, text } = answered
  const at = preparedAt.toISOString()
  const from = agentId
  return {
    id,
    frame: frameOf("MESSAGE", { ...name, id, role: "assistant", from, text, eventId, at, outcome, cursor: seq })
  }
}

const MOST_INVITED = 1_000

/** A session with somebody in it. What is said in it is in the records; this is who hears it now. */
export class Room {
  readonly name: SessionName
  /** Whom its owner has invited, for as long as somebody is in it: the last so many. */
  private readonly invited = new Set<string>()
  readonly members = new Set<Connection>()
  /** What members get once they have been told what came before. */
  private readonly behind = new Map<Connection, Array<Answer>>()

  constructor(name: SessionName) {
    this.name = name
  }
  invite(principal: string): void {
    this.invited.delete(principal)
    this.invited.add(principal)
    for (const oldest of this.invited) if (this.invited.size > MOST_INVITED) this.invited.delete(oldest)
  }
  isInvited(principal: string): boolean {
    return this.invited.has(principal)
  }
  /** What kind of conversation it is, as `routing` tells them apart. */
  get context(): "dm" | "group" {
    return new Set([...this.members].map(({ principal }) => principal.name)).size > 1 ? "group" : "dm"
  }
  tell(frame: Frame, except?: Connection): void {
    for (const member of this.members) if (member !== except) member.tell(frame)
  }
  answer(answer: Answer): void {
    for (const member of this.members) {
      const waiting = this.behind.get(member)
      if (waiting === undefined) member.tell(answer.frame)
      else waiting.push(answer)
    }
  }
  /** Answers wait for this member until `caughtUp`. */
  catchUp(member: Connection): void {
    if (!this.behind.has(member)) this.behind.set(member, [])
  }
  caughtUp(member: Connection, told: ReadonlySet<string>): void {
    const waiting = this.behind.get(member) ?? []
    this.behind.delete(member)
    if (!this.members.has(member)) return
    for (const { frame, id } of waiting) if (!told.has(id)) member.tell(frame)
  }
  forget(member: Connection): void {
    this.members.delete(member)
    this.behind.delete(member)
  }
}

/** Who hears what: each session that somebody has joined. One with nobody in it is not remembered. */
export class Rooms {
  private readonly rooms = new Map<string, Room>()

  get size(): number {
    return this.rooms.size
  }
  find(name: SessionName): Room | undefined {
    return this.rooms.get(targetOf(name))
  }
  /** Nobody enters another's session uninvited, and a session that nobody is in has nobody invited. */
  mayEnter(name: SessionName, principal: string): boolean {
    return name.owner === principal || this.find(name)?.isInvited(principal) === true
  }
  enter(name: SessionName, connection: Connection): Room {
    const room = this.find(name) ?? new Room(name)
    this.rooms.set(targetOf(name), room)
    if (room.members.has(connection)) return room
    room.tell(frameOf("CONNECT", { ...name, principal: connection.principal.name, role: connection.role }))
    room.members.add(connection)
    connection.rooms.add(room)
    return room
  }
  leave(room: Room, connection: Connection): void {
    if (!connection.rooms.delete(room)) return
    room.forget(connection)
    const { name } = room
    room.tell(frameOf("DISCONNECT", { ...name, principal: connection.principal.name, role: connection.role }))
    if (room.members.size === 0) this.rooms.delete(targetOf(name))
  }
  /**
   * Answers on their way to a session. They are in the records, and told from there to who comes later, so one is delivered
   * whether or not anybody is there to hear it; clients tell one that is told again by its id.
   */
  readonly channel: Channel = {
    name: CHANNEL,
    deduplicates: true,
    send: (message) =>
      Effect.suspend(() => {
        const name = sessionOf(message.target)
        if (name === undefined) {
          const example = targetOf({ owner: "ada", session: "ops" })
          return new ChannelSendError({
            channel: CHANNEL,
            outcome: "rejected",
            message: `"${message.target}" is no session; a target of "${CHANNEL}" is its owner and its name: ${example}`
          })
        }
        const room = this.find(name)
        room?.answer(answerOf(name, { ...message, id: message.key }))
        return Effect.succeed({ reference: `heard by ${room?.members.size ?? 0}` })
      })
  }
}
