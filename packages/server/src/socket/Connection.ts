import type { ErrorCode, Events, EventType, Role } from "@postilion/client/Protocol"
import { closeCodes, errors } from "@postilion/client/Protocol"
import type { Principal } from "../Access.ts"
import type { Room } from "./Rooms.ts"
import type { WebSocketConfig } from "./WebSocketConfig.ts"
import type { WebSocket } from "./WebSocketLibrary.ts"

/** A notification, encoded once for all who get it: what stands before its number, and what stands after. */
export interface Frame {
  readonly head: string
  readonly tail: string
}

type Unnumbered<T extends EventType> = Omit<Events[T]["params"]["Type"], "seq">

export const frameOf = <T extends EventType>(type: T, params: Unnumbered<T>): Frame => ({
  head: `{"jsonrpc":"2.0","method":"${type}","params":{"seq":`,
  tail: `,${JSON.stringify(params).slice(1)}}`
})

/** The same, of a member that is JSON already. */
export const frameWith = (type: EventType, params: object, member: string): Frame => ({
  head: `{"jsonrpc":"2.0","method":"${type}","params":{"seq":`,
  tail: `,${JSON.stringify(params).slice(1, -1)},${member}}}`
})

/** A notification that is of the moment: it has no number, and is not told again. */
export const momentOf = <T extends "ERROR" | "GAP" | "HEARTBEAT">(
  type: T,
  params: Events[T]["params"]["Type"]
): string => JSON.stringify({ jsonrpc: "2.0", method: type, params })

/** What is said of a socket that is about to be closed. */
export const lastWords = (code: ErrorCode, message: string): string =>
  momentOf("ERROR", { code, message, nextStep: errors[code].nextStep })

export const errorFrame = (
  code: ErrorCode,
  message: string,
  about: {
    readonly session?: string
    readonly owner?: string
    readonly eventId?: string
    readonly channel?: string
  } = {}
): Frame => frameOf("ERROR", { code, message, nextStep: errors[code].nextStep, ...about })

/** Whom a connection is for. */
export interface Holder {
  readonly id: string
  readonly principal: Principal
  readonly role: Role
  /** What the program says it is: its name and version. */
  readonly client: string
}

/**
 * One client, over as many sockets as it takes. What it is told is numbered and kept for a while, so that a socket that takes
 * over begins where the last one broke off.
 *
 * Plain code: telling many connections one thing is the hot path.
 */
export class Connection implements Holder {
  readonly id: string
  readonly principal: Principal
  readonly role: Role
  readonly client: string
  readonly rooms = new Set<Room>()
  socket: WebSocket | undefined
  /** Of what resumes it, as it is known by. */
  resumeKey = ""
  /** Of the last notification. */
  seq = 0
  /** By `seq` modulo `maxReplay`. */
  private readonly kept: Array<Frame | undefined> = []
  private keptFrom = 1
  private keptBytes = 0
  private readonly limits: WebSocketConfig

  constructor({ client, id, principal, role }: Holder, limits: WebSocketConfig) {
    this.id = id
    this.principal = principal
    this.role = role
    this.client = client
    this.limits = limits
  }
  /** Whether it reads about as fast as it is told. */
  get ready(): boolean {
    return this.socket !== undefined && this.socket.bufferedAmount <= this.limits.maxBufferedBytes / 2
  }
  tell(frame: Frame): void {
    this.seq += 1
    this.keep(frame)
    if (this.socket !== undefined) this.write(this.socket, frame.head + this.seq + frame.tail)
  }
  /** Says something that has no number. */
  say(text: string): void {
    if (this.socket !== undefined) this.write(this.socket, text)
  }
  /** Whether what waits to be read is so much that no more should be said for now. */
  isFull(): boolean {
    return this.socket !== undefined && this.socket.bufferedAmount > this.limits.maxBufferedBytes / 2
  }
  /** Calls `done` once what was said so far has left, or never will, and others have had their turn. */
  drained(done: () => void): void {
    const later = (): void => void setImmediate(done)
    if (this.socket === undefined) later()
    else this.socket.ping(undefined, undefined, later)
  }
  /** The client has everything up to this one. */
  arrived(seq: number): void {
    while (this.keptFrom <= Math.min(seq, this.seq)) this.forgetFirst()
  }
  /** Goes on with another socket, whose client has had everything up to `seq`. */
  resume(socket: WebSocket, seq: number): void {
    this.socket = socket
    this.arrived(seq)
    const missed = this.keptFrom - 1 - seq
    if (missed > 0)
      this.say(momentOf("GAP", { missed, nextStep: "look at `session.history`, `status` and the records" }))
    for (let n = this.keptFrom; n <= this.seq; n++) {
      const frame = this.kept[n % this.limits.maxReplay]
      if (frame !== undefined) socket.send(frame.head + n + frame.tail)
    }
  }
  private keep(frame: Frame): void {
    if (this.seq - this.keptFrom >= this.limits.maxReplay) this.forgetFirst()
    this.kept[this.seq % this.limits.maxReplay] = frame
    this.keptBytes += frame.tail.length
    while (this.keptBytes > this.limits.maxBufferedBytes) this.forgetFirst()
  }
  private forgetFirst(): void {
    const at = this.keptFrom % this.limits.maxReplay
    this.keptBytes -= this.kept[at]?.tail.length ?? 0
    this.kept[at] = undefined
    this.keptFrom += 1
  }
  private write(socket: WebSocket, text: string): void {
    const { maxBufferedBytes } = this.limits
    if (socket.bufferedAmount <= maxBufferedBytes) {
      socket.send(text)
      return
    }
    // What it was not sent is kept for when it comes back.
    this.socket = undefined
    socket.send(lastWords("slow-consumer", `more than ${maxBufferedBytes} bytes wait to be read`))
    socket.close(closeCodes.tryLater, "slow consumer")
  }
}
