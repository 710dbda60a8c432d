import { type Connection, type Frame, frameOf } from "../socket/Connection.ts"

type Metadata = Readonly<Record<string, unknown>>

/** Who was there that are remembered, by channel. */
const MOST_LEFT = 100

interface Member {
  readonly connections: Set<Connection>
  readonly since: number
  /** When its last socket was lost, if it has none. */
  lastSeen: number
  metadata: Metadata
}
type Seen = Pick<Member, "since" | "lastSeen" | "metadata">

const iso = (at: number): string => new Date(at).toISOString()
const shown = (principal: string, { lastSeen, metadata, since }: Seen) => ({
  principal,
  since: iso(since),
  lastSeen: iso(lastSeen),
  metadata
})

/** Who hears a channel. A principal is there once, over however many connections. */
export class Presence {
  private readonly members = new Map<string, Member>()
  private readonly left = new Map<string, Seen>()
  private readonly watchers = new Set<Connection>()
  private readonly channel: string

  constructor(channel: string) {
    this.channel = channel
  }
  get size(): number {
    return this.members.size
  }
  /** Without `metadata`, what it said before holds. */
  join(connection: Connection, metadata: Metadata | undefined, now: number): void {
    const { name } = connection.principal
    const known = this.members.get(name)
    if (known !== undefined) {
      known.connections.add(connection)
      if (metadata === undefined || JSON.stringify(metadata) === JSON.stringify(known.metadata)) return
      known.metadata = metadata
      this.tell("updated", name, { ...known, lastSeen: now })
      return
    }
    const member = { connections: new Set([connection]), since: now, lastSeen: now, metadata: metadata ?? {} }
    this.members.set(name, member)
    this.left.delete(name)
    this.tell("joined", name, member)
  }
  watch(connection: Connection, wanted: boolean): void {
    if (wanted) this.watchers.add(connection)
    else this.watchers.delete(connection)
  }
  /** Has no socket, and may come back. */
  lost(connection: Connection, now: number): void {
    const member = this.members.get(connection.principal.name)
    if (member !== undefined) member.lastSeen = now
  }
  leave(connection: Connection, lastSeen: number): void {
    this.watchers.delete(connection)
    const { name } = connection.principal
    const member = this.members.get(name)
    if (member === undefined || !member.connections.delete(connection)) return
    if (member.connections.size > 0) return
    this.members.delete(name)
    const { metadata, since } = member
    this.left.set(name, { since, lastSeen, metadata })
    for (const oldest of this.left.keys()) if (this.left.size > MOST_LEFT) this.left.delete(oldest)
    this.tell("left", name, { since, lastSeen, metadata })
  }
  query(now: number) {
    return {
      present: [...this.members].map(([principal, member]) => {
        const online = [...member.connections].some(({ socket }) => socket !== undefined)
        return { ...shown(principal, online ? { ...member, lastSeen: now } : member), online }
      }),
      left: [...this.left].map(([principal, seen]) => shown(principal, seen)).reverse()
    }
  }
  private tell(change: "joined" | "updated" | "left", principal: string, seen: Seen): void {
    if (this.watchers.size === 0) return
    const frame: Frame = frameOf("PRESENCE", { channel: this.channel, change, ...shown(principal, seen) })
    for (const watcher of this.watchers) watcher.tell(frame)
  }
}
