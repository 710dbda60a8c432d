import { MutableList } from "effect"

/** What waits for its turn: in a lane, for an agent. */
export interface Waiting {
  /** Of one lane, one at a time, in order. */
  readonly lane: string
  readonly agentId: string
}

interface Lane<Item> {
  readonly waiting: Array<Item>
  running: boolean
  /** Nothing of it begins for now. */
  held: boolean
  /** The agent in whose `ready` list the lane stands: its first item's. */
  readyFor: string | undefined
}

interface Agent {
  running: number
  /** Lanes whose first item is for this agent and may start. Entries that no longer hold are passed over. */
  readonly ready: MutableList.MutableList<string>
  /** Whether it stands in the row of agents whose turn is to come. */
  inTurn: boolean
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
 * Whose turn it is: one item per lane, so many per agent, so many in all. Agents take turns, so that one with many lanes
 * never keeps another from its own. Each change costs the same however many wait.
 */
export class Lanes<Item extends Waiting> {
  private readonly lanes = new Map<string, Lane<Item>>()
  private readonly agents = new Map<string, Agent>()
  private readonly turns = MutableList.empty<string>()
  private readonly options: LanesOptions
  running = 0
  waiting = 0

  constructor(options: LanesOptions) {
    this.options = options
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
    lane.readyFor = undefined
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
    this.waiting -= 1
    if (lane.waiting.length > 0) this.makeReady(item.lane, lane)
    else if (!lane.running) this.lanes.delete(item.lane)
  }
  add(item: Item): void {
    const lane = this.lanes.get(item.lane) ?? { waiting: [], running: false, held: false, readyFor: undefined }
    this.lanes.set(item.lane, lane)
    lane.waiting.push(item)
    this.waiting += 1
    this.makeReady(item.lane, lane)
  }
  /** The next that may start, which it then has; `undefined` when none may. */
  next(): Item | undefined {
    while (this.running < this.options.limit) {
      const agentId = MutableList.shift(this.turns)
      if (agentId === undefined) return undefined
      const agent = this.agentOf(agentId)
      agent.inTurn = false
      if (agent.running >= this.options.limitOf(agentId) || !this.options.mayStart(agentId)) continue
      const lane = this.takeReady(agentId, agent)
      const item = lane?.waiting.shift()
      if (lane === undefined || item === undefined) {
        this.forget(agentId, agent)
        continue
      }
      lane.running = true
      agent.running += 1
      this.running += 1
      this.waiting -= 1
      this.takeTurn(agentId, agent)
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
    this.lanes.get(item.lane)?.waiting.unshift(item)
    this.waiting += 1
    this.release(item)
  }
  /** What may start has changed: every agent with something to start takes a turn again. */
  reconsider(): void {
    for (const [agentId, agent] of this.agents) this.takeTurn(agentId, agent)
  }

  private agentOf(agentId: string): Agent {
    const known = this.agents.get(agentId)
    if (known !== undefined) return known
    const agent = { running: 0, ready: MutableList.empty<string>(), inTurn: false }
    this.agents.set(agentId, agent)
    return agent
  }
  private makeReady(key: string, lane: Lane<Item>): void {
    const first = lane.waiting[0]
    if (first === undefined || lane.running || lane.held || lane.readyFor === first.agentId) return
    lane.readyFor = first.agentId
    const agent = this.agentOf(first.agentId)
    MutableList.append(agent.ready, key)
    this.takeTurn(first.agentId, agent)
  }
  private takeReady(agentId: string, agent: Agent): Lane<Item> | undefined {
    while (true) {
      const key = MutableList.shift(agent.ready)
      if (key === undefined) return undefined
      const lane = this.lanes.get(key)
      if (lane?.readyFor !== agentId) continue
      lane.readyFor = undefined
      return lane
    }
  }
  private takeTurn(agentId: string, agent: Agent): void {
    if (agent.inTurn || MutableList.isEmpty(agent.ready)) return
    agent.inTurn = true
    MutableList.append(this.turns, agentId)
  }
  private forget(agentId: string, agent: Agent): void {
    if (agent.running === 0 && !agent.inTurn && MutableList.isEmpty(agent.ready)) this.agents.delete(agentId)
  }
}
