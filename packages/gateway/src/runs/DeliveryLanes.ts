import { MutableList } from "effect"
import type { ReplyRoute } from "../domain/Delivery.ts"

/** A target that has, or may have, something to be sent. */
export interface Lane extends ReplyRoute {
  readonly key: string
  /** `ready`: waits for its turn. `active`: has it. `waiting`: has nothing to do before its time. */
  state: "ready" | "active" | "waiting"
  /** Whether something came while it was active, which its turn may not have seen. */
  again: boolean
}

/** JSON, because names are not ours to forbid a separator: two routes never share a lane. */
export const laneKey = ({ channel, target }: ReplyRoute): string => JSON.stringify([channel, target])

/**
 * The targets that are known to have something to do, at most `most` of them. What does not fit is still in the records: a
 * look through them finds it again. Half of the room is kept for targets that can go on now, so that those which wait for
 * their time never keep others out.
 */
export class Lanes {
  private readonly known = new Map<string, Lane>()
  private readonly ready = MutableList.empty<Lane>()
  private readonly most: number
  private waiting = 0
  active = 0

  constructor(most: number) {
    this.most = most
  }
  /** Whether another target can be remembered. What has its turn does not count: it is soon over. */
  get hasRoom(): boolean {
    return this.known.size - this.active < this.most
  }
  /** Gives the target a turn. `false`: there is no room to remember it. */
  wake(route: ReplyRoute): boolean {
    const key = laneKey(route)
    const lane = this.known.get(key)
    if (lane !== undefined) {
      lane.again = true
      return true
    }
    if (!this.hasRoom) return false
    this.enter({ key, channel: route.channel, target: route.target, state: "ready", again: false })
    return true
  }
  /** Its time has come. */
  resume(key: string): void {
    const lane = this.known.get(key)
    if (lane?.state === "waiting") this.enter(lane)
  }
  /** When their time comes is to be seen again. */
  resumeAll(): void {
    for (const lane of this.known.values()) if (lane.state === "waiting") this.enter(lane)
  }
  /** Whoever is next, for a turn. */
  take(): Lane | undefined {
    const lane = MutableList.shift(this.ready)
    if (lane === undefined) return undefined
    this.move(lane, "active")
    lane.again = false
    return lane
  }
  /** A turn has ended and there may be more to do. */
  enter(lane: Lane): void {
    this.known.set(lane.key, lane)
    this.move(lane, "ready")
    MutableList.append(this.ready, lane)
  }
  /** A turn has ended and there is nothing to do before a time. `false`: there is no room to remember that. */
  wait(lane: Lane): boolean {
    if (this.waiting >= this.most / 2) {
      this.forget(lane)
      return false
    }
    this.move(lane, "waiting")
    return true
  }
  /** A turn has ended and there is nothing to do. */
  forget(lane: Lane): void {
    this.move(lane, "ready")
    this.known.delete(lane.key)
  }
  private move(lane: Lane, state: Lane["state"]): void {
    if (lane.state === "active") this.active -= 1
    else if (lane.state === "waiting") this.waiting -= 1
    if (state === "active") this.active += 1
    else if (state === "waiting") this.waiting += 1
    lane.state = state
  }
}
