import { MutableList } from "effect"
import { EventPriority } from "../domain/GatewayEvent.ts"

/** What waits for its turn: in a lane, for an agent. */
export interface Waiting {
  /** Of one lane, one at a time, in order. */
  readonly lane: string
  readonly agentId: string
  /** How urgent it is. */
  readonly priority: EventPriority
}

/** The most urgent first. */
const RANKS = [...EventPriority.literals].reverse()
/** Every so many starts, the least urgent that may start comes first: however much is urgent, the rest gets on. */
const FAIRNESS = 8

interface Lane<Item> {
  readonly waiting: Array<Item>
  /** By rank: how many of those wait. */
  readonly ranks: Array<number>
  running: boolean
  /** Nothing of it begins for now. */
  held: boolean
  /** In which list of ready lanes it stands: that of its first item's agent, as urgent as the most urgent that waits. */
  ready: { readonly agentId: string; readonly rank: number } | undefined
}

const emptyLane = <Item>(): Lane<Item> => ({
  waiting: [],
  ranks: RANKS.map(() => 0),
  running: false,
  held: false,
  ready: undefined
})

interface Agent {
  running: number
  /** By rank: lanes whose first item is for this agent and may start. Entries that no longer hold are passed over. */
  readonly ready: ReadonlyArray<MutableList.MutableList<string>>
  /** By rank: whether it stands in the row of agents whose turn is to come. */
  readonly inTurn: Array<boolean>
}

export interface LanesOptions {
  /** Items under way at a time, over all agents. */
  readonly limit: number
  /** Items under way at a time, of one agent. */
  readonly limitOf: (agentId: string) => number
  /** Whether anything of this agent may start now. Call `reconsider` when the answer changes. */
  readonly mayStart: (agentId: string) => boolean
}

/**
 * Whose turn it is: one item per lane, so many per agent, so many in all; the most urgent first, and in a lane in order: what
 * stands before something urgent is as urgent. Agents take turns, so that one with many lanes never keeps another from its
 * own. Each change costs the same however many lanes wait.
 */
export class Lanes<Item extends Waiting> {
  private readonly lanes = new Map<string, Lane<Item>>()
  private readonly agents = new Map<string, Agent>()
  private readonly turns = RANKS.map(() => MutableList.empty<string>())
  private readonly options: LanesOptions
  private readonly waitingFor = new Map<string, number>()
  running = 0
  waiting = 0
  private started = 0

  constructor(options: LanesOptions) {
    this.options = options
  }
  /** How many of this agent wait. */
  waitingOf(agentId: string): number {
    return this.waitingFor.get(agentId) ?? 0
  }
  /** How many of this agent are under way. */
  runningOf(agentId: string): number {
    return this.agents.get(agentId)?.running ?? 0
  }
  /** How many more of this agent could be under way now. */
  roomFor(agentId: string): number {
    if (!this.options.mayStart(agentId)) return 0
    return Math.max(
      0,
      Math.min(this.options.limit - this.running, this.options.limitOf(agentId) - this.runningOf(agentId))
    )
  }
  /** Whether anything of this lane is under way or waits. */
  has(lane: string): boolean {
    return this.lanes.has(lane)
  }
  /** What waits in this lane, first come first. */
  waitingIn(lane: string): ReadonlyArray<Item> {
    return this.lanes.get(lane)?.waiting ?? []
  }
  /** Lets nothing of the lane begin until it is opened. */
  hold(key: string): void {
    const lane = this.lanes.get(key)
    if (lane === undefined) return
    lane.held = true
    lane.ready = undefined
  }
  open(key: string): void {
    const lane = this.lanes.get(key)
    if (lane === undefined) return
    lane.held = false
    this.makeReady(key, lane)
  }
  /** Takes out one that waits. */
  remove(item: Item): void {
    const lane = this.lanes.get(item.lane)
    const place = lane?.waiting.indexOf(item) ?? -1
    if (lane === undefined || place === -1) return
    lane.waiting.splice(place, 1)
    this.count(lane, item, -1)
    if (lane.waiting.length > 0) this.makeReady(item.lane, lane)
    else if (!lane.running) this.lanes.delete(item.lane)
  }
  add(item: Item): void {
    const lane = this.lanes.get(item.lane) ?? emptyLane<Item>()
    this.lanes.set(item.lane, lane)
    lane.waiting.push(item)
    this.count(lane, item, 1)
    this.makeReady(item.lane, lane)
  }
  /** The next that may start, which it then has; `undefined` when none may. */
  next(): Item | undefined {
    const fromLast = this.started % FAIRNESS === FAIRNESS - 1
    for (let i = 0; i < RANKS.length; i++) {
      const item = this.nextOf(fromLast ? RANKS.length - 1 - i : i)
      if (item === undefined) continue
      this.started += 1
      return item
    }
    return undefined
  }
  /** What `next` gave has ended. */
  release(item: Item): void {
    const lane = this.lanes.get(item.lane)
    const agent = this.agentOf(item.agentId)
    this.running -= 1
    agent.running -= 1
    this.takeTurn(item.agentId, agent)
    this.forget(item.agentId, agent)
    if (lane === undefined) return
    lane.running = false
    if (lane.waiting.length === 0) this.lanes.delete(item.lane)
    else this.makeReady(item.lane, lane)
  }
  /** What `next` gave has not begun: it is the next of its lane again. */
  giveBack(item: Item): void {
    const lane = this.lanes.get(item.lane)
    if (lane !== undefined) {
      lane.waiting.unshift(item)
      this.count(lane, item, 1)
    }
    this.release(item)
  }
  /** What may start has changed: every agent with something to start takes a turn again. */
  reconsider(): void {
    for (const [agentId, agent] of this.agents) this.takeTurn(agentId, agent)
  }

  private nextOf(rank: number): Item | undefined {
    const turns = this.turns[rank] as MutableList.MutableList<string>
    while (this.running < this.options.limit) {
      const agentId = MutableList.shift(turns)
      if (agentId === undefined) return undefined
      const agent = this.agentOf(agentId)
      agent.inTurn[rank] = false
      if (agent.running >= this.options.limitOf(agentId) || !this.options.mayStart(agentId)) continue
      const lane = this.takeReady(agentId, agent, rank)
      const item = lane?.waiting.shift()
      if (lane === undefined || item === undefined) {
        this.forget(agentId, agent)
        continue
      }
      lane.running = true
      agent.running += 1
      this.running += 1
      this.count(lane, item, -1)
      this.takeTurn(agentId, agent)
      return item
    }
    return undefined
  }
  private count(lane: Lane<Item>, { agentId, priority }: Item, by: 1 | -1): void {
    const rank = RANKS.indexOf(priority)
    lane.ranks[rank] = (lane.ranks[rank] ?? 0) + by
    this.waiting += by
    const left = this.waitingOf(agentId) + by
    if (left === 0) this.waitingFor.delete(agentId)
    else this.waitingFor.set(agentId, left)
  }
  private agentOf(agentId: string): Agent {
    const known = this.agents.get(agentId)
    if (known !== undefined) return known
    const agent = { running: 0, ready: RANKS.map(() => MutableList.empty<string>()), inTurn: RANKS.map(() => false) }
    this.agents.set(agentId, agent)
    return agent
  }
  private makeReady(key: string, lane: Lane<Item>): void {
    const first = lane.waiting[0]
    if (first === undefined || lane.running || lane.held) return
    const { agentId } = first
    const rank = lane.ranks.findIndex((count) => count > 0)
    if (lane.ready?.agentId === agentId && lane.ready.rank === rank) return
    lane.ready = { agentId, rank }
    const agent = this.agentOf(agentId)
    MutableList.append(agent.ready[rank] as MutableList.MutableList<string>, key)
    this.takeTurn(agentId, agent)
  }
  private takeReady(agentId: string, agent: Agent, rank: number): Lane<Item> | undefined {
    const ready = agent.ready[rank] as MutableList.MutableList<string>
    while (true) {
      const key = MutableList.shift(ready)
      if (key === undefined) return undefined
      const lane = this.lanes.get(key)
      if (lane?.ready?.agentId !== agentId || lane.ready.rank !== rank) continue
      lane.ready = undefined
      return lane
    }
  }
  private takeTurn(agentId: string, agent: Agent): void {
    for (const [rank, ready] of agent.ready.entries()) {
      if (agent.inTurn[rank] === true || MutableList.isEmpty(ready)) continue
      agent.inTurn[rank] = true
      MutableList.append(this.turns[rank] as MutableList.MutableList<string>, agentId)
    }
  }
  private forget(agentId: string, agent: Agent): void {
    if (agent.running === 0 && !agent.inTurn.includes(true) && agent.ready.every(MutableList.isEmpty)) {
      this.agents.delete(agentId)
    }
  }
}
