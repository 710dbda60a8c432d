/**
 * What a token is for.
 *
 * - `operator`: all there is, but to be an agent: for that it connects as one.
 * - `viewer`: reads what goes on, and changes nothing.
 * - `client`: talks to agents, in sessions of its own.
 * - `agent`: as `client`, for a program that works for the gateway: it may take an agent's tasks, and tell something to all.
 */
export const SCOPES = ["operator", "agent", "client", "viewer"] as const
export type Scope = (typeof SCOPES)[number]

const read: ReadonlyArray<Scope> = ["operator", "viewer"]
const talk: ReadonlyArray<Scope> = ["operator", "agent", "client"]
/** Within what each channel's own settings let one do. */
const publish: ReadonlyArray<Scope> = talk
/** Reaches everyone, so a client may not. */
const tellAll: ReadonlyArray<Scope> = ["operator", "agent"]
const operate: ReadonlyArray<Scope> = ["operator"]
/** Within what each agent's own settings let one do. */
const work: ReadonlyArray<Scope> = ["agent"]
const everyone: ReadonlyArray<Scope> = SCOPES

/** Who may do what, at whichever door: the one table. What is not in it, nobody may do. */
const TABLE = {
  status: read,
  budget: read,
  /** Any event, and the list of them. */
  "events.show": read,
  "events.explain": read,
  /** As a program that tells the gateway of a change: in whichever session. */
  "events.submit": operate,
  /** To read what became of an event one sent. */
  "events.own": everyone,
  "runs.read": read,
  /** To ask which agent something would be for. */
  route: read,
  "approvals.list": read,
  "approvals.approve": operate,
  "approvals.deny": operate,
  "deliveries.list": read,
  "deliveries.replay": operate,
  "deliveries.drop": operate,
  /** Pause, resume, stop, terminate, release and shut down. */
  control: operate,
  "session.send": talk,
  "session.join": talk,
  "session.leave": talk,
  "session.history": talk,
  /** Of one's own run: one that a message of one's own has caused. */
  "run.abort": talk,
  "run.abort.any": operate,
  broadcast: tellAll,
  "events.subscribe": read,
  "events.unsubscribe": read,
  "push.publish": publish,
  "push.subscribe": everyone,
  "push.unsubscribe": everyone,
  "push.ack": everyone,
  "push.nack": everyone,
  "push.history": everyone,
  "presence.query": everyone,
  "push.dead-letters.list": read,
  "push.dead-letters.replay": operate,
  "push.dead-letters.drop": operate,
  "agent.serve": work,
  "task.renew": work,
  "task.complete": work,
  "task.fail": work,
  "agents.list": everyone,
  ping: everyone,
  "tokens.create": operate,
  "tokens.list": operate,
  "tokens.revoke": operate,
  "sessions.read": read,
  "sessions.change": operate,
  "jobs.list": read,
  "jobs.change": operate,
  "jobs.run": operate,
  "policies.list": read,
  "policies.change": operate,
  "audit.read": read,
  metrics: read
} satisfies Readonly<Record<string, ReadonlyArray<Scope>>>

/** What can be done at a door. */
export type Action = keyof typeof TABLE

export const ACTIONS = Object.keys(TABLE) as ReadonlyArray<Action>

const isAction = (name: string): name is Action => Object.hasOwn(TABLE, name)

/** The action of this name, as it is written where operations are declared. Throws where the table has none. */
export const named = (name: string): Action => {
  if (isAction(name)) return name
  throw new Error(`there is no action "${name}" in the table of scopes`)
}

/** Who may do this. */
export const scopesFor = (action: Action): ReadonlyArray<Scope> => TABLE[action]

/** Whether a holder of these scopes may do this: any one of them is enough. */
export const allow = (scopes: ReadonlyArray<Scope>, action: Action): boolean => {
  const allowed: ReadonlyArray<Scope> = TABLE[action]
  return scopes.some((scope) => allowed.includes(scope))
}

/** Whether who has these scopes may hand on this one. */
export const covers = (held: ReadonlyArray<Scope>, scope: Scope): boolean =>
  held.includes("operator") || held.includes(scope)
