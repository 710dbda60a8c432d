import type { PushPresenceRow } from "@postilion/gateway/records/Tables"
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

/** Of somebody of whom something else is to be written; without a row, that they are forgotten. */
interface Change {
  readonly principal: string
  readonly row: Pick<PushPresenceRow, "since" | "seen_at" | "metadata"> | undefined
}

const isOnline = ({ connections }: Member): boolean => [...connections].some(({ socket }) => socket !== undefined)
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
  /** Those of whom something else is to be written. */
  private readonly changed = new Set<string>()
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
      this.changed.add(name)
      this.tell("updated", name, { ...known, lastSeen: now })
      return
    }
    const member = { connections: new Set([connection]), since: now, lastSeen: now, metadata: metadata ?? {} }
    this.members.set(name, member)
    this.left.delete(name)
    this.changed.add(name)
    this.tell("joined", name, member)
  }
  watch(connection: Connection, wanted: boolean): void {
    if (wanted) this.watchers.add(connection)
    else this.watchers.delete(connection)
  }
  /** Has no socket, and may come back. */
  lost(connection: Connection, now: number): void {
    const member = this.members.get(connection.principal.name)
    if (member === undefined) return
    member.lastSeen = now
    this.changed.add(connection.principal.name)
  }
  leave(connection: Connection, lastSeen: number): void {
    this.watchers.delete(connection)
    const { name } = connection.principal
    const member = this.members.get(name)
    if (member === undefined || !member.connections.delete(connection)) return
    if (member.connections.size > 0) return
    this.members.delete(name)
    const { metadata, since } = member
    this.remember(name, { since, lastSeen, metadata })
    this.changed.add(name)
    this.tell("left", name, { since, lastSeen, metadata })
  }
  query(now: number) {
    return {
      present: [...this.members].map(([principal, member]) => {
        const online = isOnline(member)
        return { ...shown(principal, online ? { ...member, lastSeen: now } : member), online }
      }),
      left: [...this.left].map(([principal, seen]) => shown(principal, seen)).reverse()
    }
  }
  /** Takes who was there before the gateway started, the one seen first first. */
  restore({ metadata, principal, seen_at, since }: PushPresenceRow): void {
    this.remember(principal, { since, lastSeen: seen_at, metadata: JSON.parse(metadata) as Metadata })
  }
  /** Who is there is to be written anew, seen now. Whether somebody is. */
  touch(): boolean {
    for (const name of this.members.keys()) this.changed.add(name)
    return this.members.size > 0
  }
  /** Forgets who was last seen before this. Whether somebody was. */
  forget(before: number): boolean {
    const old = [...this.left].filter(([, { lastSeen }]) => lastSeen < before)
    for (const [name] of old) {
      this.left.delete(name)
      this.changed.add(name)
    }
    return old.length > 0
  }
  /** What is to be written: the same is not asked for again, unless it is given back. */
  takeChanges(now: number): ReadonlyArray<Change> {
    const changes = [...this.changed].map((principal): Change => {
      const member = this.members.get(principal)
      const seen = member ?? this.left.get(principal)
      if (seen === undefined) return { principal, row: undefined }
      const seen_at = member !== undefined && isOnline(member) ? now : seen.lastSeen
      return { principal, row: { since: seen.since, seen_at, metadata: JSON.stringify(seen.metadata) } }
    })
    this.changed.clear()
    return changes
  }
  /** It could not be written. */
  giveBack(principals: ReadonlyArray<string>): void {
    for (const principal of principals) this.changed.add(principal)
  }
  private remember(principal: string, seen: Seen): void {
    this.left.set(principal, seen)
    for (const oldest of this.left.keys()) {
      if (this.left.size <= MOST_LEFT) return
      this.left.delete(oldest)
      this.changed.add(oldest)
    }
  }
  private tell(change: "joined" | "updated" | "left", principal: string, seen: Seen): void {
    if (this.watchers.size === 0) return
    const frame: Frame = frameOf("PRESENCE", { channel: this.channel, change, ...shown(principal, seen) })
    for (const watcher of this.watchers) watcher.tell(frame)
  }
}
