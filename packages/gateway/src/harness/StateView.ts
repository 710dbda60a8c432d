import type { PolicyState } from "../domain/PolicyState.ts"

/** 09:00, in minutes since midnight. */
const MORNING = 540

/** Keeps the costly part, which few policies read and no record needs, from being worked out for every event. */
export class StateView implements PolicyState {
  readonly now: PolicyState["now"]
  readonly budget: PolicyState["budget"]
  readonly budgets: PolicyState["budgets"]
  readonly rate: PolicyState["rate"]
  readonly pending: PolicyState["pending"]
  readonly heartbeat: PolicyState["heartbeat"]
  readonly merge: PolicyState["merge"]
  readonly approval: PolicyState["approval"]
  readonly chain: PolicyState["chain"]
  readonly sender: PolicyState["sender"]
  readonly agent: PolicyState["agent"]

  constructor(facts: Omit<PolicyState, "nextMorning" | "budget">) {
    this.now = facts.now
    // There always is one: the day's tokens.
    this.budget = facts.budgets[0] as PolicyState["budget"]
    this.budgets = facts.budgets
    this.rate = facts.rate
    this.pending = facts.pending
    this.heartbeat = facts.heartbeat
    this.merge = facts.merge
    this.approval = facts.approval
    this.chain = facts.chain
    this.sender = facts.sender
    this.agent = facts.agent
  }
  get nextMorning(): Date {
    return this.now.at(this.now.minuteOfDay < MORNING ? 0 : 1, MORNING)
  }
}
