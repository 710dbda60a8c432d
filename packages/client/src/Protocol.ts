import { Schema } from "effect"
import { agentEvents, agentMethods } from "./AgentProtocol.ts"
import { count, described, LONGEST_NAME, Name, named, text, whole } from "./internal/Fields.ts"
import { pushEvents, pushMethods } from "./PushProtocol.ts"

/**
 * The control plane's frames: JSON-RPC 2.0 in WebSocket text frames, at the path `/ws`. Requests are what a client asks,
 * notifications what the gateway tells; each is declared here once, for both sides, and `docs/protocol.md` is made from it.
 */

/** The versions of the protocol there are, first and last. */
export const VERSIONS = [1, 1] as const

/** A thing with members that this version does not name. */
const open = <Fields extends Schema.Struct.Fields>(fields: Fields) =>
  Schema.Struct(fields, Schema.Record({ key: Schema.String, value: Schema.Unknown }))

export const Role = Schema.Literal("client", "agent", "viewer", "operator")
export type Role = typeof Role.Type

const SessionRef = {
  session: named("The session's name. Each principal has names of its own."),
  owner: Schema.optional(named("Whose session. Default: who asks."))
}
const Member = Schema.Struct({ principal: Schema.String, role: Role })
export type Member = typeof Member.Type

const Turn = Schema.Struct({
  seq: whole("Grows from turn to turn."),
  role: Schema.Literal("user", "assistant"),
  content: Schema.String,
  at: text("ISO 8601."),
  sender: Schema.optional(Schema.String),
  eventId: Schema.optional(Schema.String)
})
export type Turn = typeof Turn.Type

/** What waits, or waited, for a person. */
const Approval = open({
  id: Schema.String,
  eventId: Schema.String,
  state: Schema.Literal("pending", "approved", "denied", "expired"),
  reason: Schema.String,
  digest: text("Of what would run. Sent along with an approval, it approves that and nothing else.")
})
export type Approval = typeof Approval.Type

/** What a principal may do is its token's scopes; a connection has the one it asked for, if the token has it. */
const Limits = Schema.Struct({
  maxPayload: whole("Bytes a frame may have."),
  maxMessagesPerMinute: whole("Frames a minute; more are refused."),
  heartbeatIntervalMs: whole("A connection that says nothing for twice as long is closed: send `ping`."),
  reconnectTimeoutMs: whole("How long a connection without a socket can be resumed.")
})
export type Limits = typeof Limits.Type

export const Welcome = Schema.Struct({
  protocol: whole("The version that is spoken from here on."),
  connectionId: Schema.String,
  resumed: described(
    Schema.Boolean,
    "Whether this is the connection asked for. Where not, its sessions have to be joined again."
  ),
  resumeToken: text("What resumes this connection, once: each welcome brings a new one."),
  principal: text("Who the token says you are."),
  scopes: Schema.Array(Schema.String),
  limits: Limits,
  cursor: text("Where the gateway's events stand, for `events.subscribe`.")
})
export type Welcome = typeof Welcome.Type

const Connect = Schema.Struct({
  protocol: described(Schema.Tuple(Schema.Int, Schema.Int), "The lowest and the highest version the client speaks."),
  role: described(Role, "The scope that is asked for."),
  token: Schema.optional(text("Here or in the header `Authorization: Bearer`, never in the URL.")),
  client: described(
    Schema.Struct({ name: Name, version: Name }),
    "What the gateway's log calls the program, at `debug`."
  ),
  resume: Schema.optional(
    Schema.Struct({ token: Schema.String, seq: whole("The `seq` of the last notification that arrived; 0: none.") })
  )
})

/** The library would take a list for one. */
const Empty = Schema.Struct({}).annotations({ jsonSchema: { type: "object", additionalProperties: false } })

/**
 * What can be asked. `repeatable`: asked a second time it does no more than the first, so a client may ask again after a lost
 * connection.
 */
export const methods = {
  connect: {
    about: "The first frame of a socket, within 15 seconds.",
    repeatable: false,
    params: Connect,
    result: Welcome
  },
  ping: {
    about: "Says that the client is there, and up to where notifications have arrived: those are not kept any more.",
    repeatable: true,
    params: Schema.Struct({ seq: Schema.optional(Schema.NonNegativeInt) }),
    result: Schema.Struct({ seq: whole("Of the last notification sent.") })
  },
  "session.join": {
    about:
      "Enters a session: from here on its MESSAGEs arrive. One's own, or one whose owner has invited. With `since`, the answers after that cursor come first.",
    repeatable: true,
    params: Schema.Struct({
      ...SessionRef,
      invite: Schema.optional(
        described(Schema.Array(Name).pipe(Schema.maxItems(100)), "Principals that may join too. Only by the owner.")
      ),
      since: Schema.optional(whole("A cursor. Default: nothing of what came before."))
    }),
    result: Schema.Struct({
      session: Schema.String,
      owner: Schema.String,
      members: Schema.Array(Member),
      cursor: whole("Where the session's answers stood.")
    })
  },
  "session.leave": {
    about: "Leaves a session. What it is asked goes on.",
    repeatable: true,
    params: Schema.Struct(SessionRef),
    result: Empty
  },
  "session.send": {
    about:
      "Says something in a session, and joins it. Answered once it is on disk; what the agent answers comes as a MESSAGE to all who joined.",
    repeatable: true,
    params: Schema.Struct({
      ...SessionRef,
      id: named("The client's own id of the message: sent twice, it is the same message."),
      text: Schema.NonEmptyString,
      agentId: Schema.optional(named("Default: the gateway's first agent."))
    }),
    result: Schema.Struct({
      eventId: Schema.String,
      duplicate: described(Schema.Boolean, "Whether it had been sent before."),
      decision: described(Schema.NullOr(Schema.String), "What the policies decided, if they did at once.")
    })
  },
  "session.history": {
    about: "The recent turns of a session that one has joined or owns, oldest first.",
    repeatable: true,
    params: Schema.Struct({
      ...SessionRef,
      turns: Schema.optional(count(1, 1_000, "Default: 40."))
    }),
    result: Schema.Struct({ turns: Schema.Array(Turn) })
  },
  "run.abort": {
    about:
      "Ends a run: one that waits does not begin, one under way is interrupted. Answered once it has ended; who waits for its answer is told that there is none. One's own, that a message of one's own has caused; an operator any.",
    repeatable: true,
    params: Schema.Struct({ id: named("The run's, or that of the event it is for.") }),
    result: Schema.Struct({ eventId: Schema.String, runId: Schema.String })
  },
  broadcast: {
    about: "Tells every connection something, as a BROADCAST. Only those there now, or soon back, get it.",
    repeatable: false,
    params: Schema.Struct({ text: Schema.NonEmptyString }),
    result: Schema.Struct({ connections: whole("How many it was told.") })
  },
  "events.subscribe": {
    about: "What happens in the gateway, as GATEWAY notifications. A second subscription takes the place of the first.",
    repeatable: true,
    params: Schema.Struct({
      filter: Schema.optional(
        Schema.Struct({
          types: Schema.optional(described(Schema.Array(Name).pipe(Schema.maxItems(100)), "Default: all.")),
          agentId: Schema.optional(named("Only what has to do with this agent."))
        })
      ),
      since: Schema.optional(
        named("A cursor: what came after it is told first, and a GAP where that is not known any more.")
      )
    }),
    result: Schema.Struct({ cursor: Schema.String })
  },
  "events.unsubscribe": { about: "Ends it.", repeatable: true, params: Empty, result: Empty },
  "approvals.list": {
    about: "What waits for a person, oldest first, at most 1,000.",
    repeatable: true,
    params: Empty,
    result: Schema.Struct({ approvals: Schema.Array(Approval) })
  },
  "approvals.approve": {
    about: "Says yes to what an approval shows.",
    repeatable: true,
    params: Schema.Struct({ id: Name, digest: Schema.optional(named("Of what is approved.")) }),
    result: Approval
  },
  "approvals.deny": {
    about: "Says no: one is enough.",
    repeatable: true,
    params: Schema.Struct({ id: Name }),
    result: Approval
  },
  status: {
    about: "How the gateway stands.",
    repeatable: true,
    params: Empty,
    result: open({
      isRunning: Schema.Boolean,
      uptime: whole("Milliseconds since start."),
      connections: Schema.NonNegativeInt
    })
  },
  "agents.list": {
    about: "The agents there are, and how each is switched.",
    repeatable: true,
    params: Empty,
    result: Schema.Struct({
      agents: Schema.Array(
        Schema.Struct({ id: Schema.String, mode: Schema.Literal("running", "paused", "stopped", "terminated") })
      )
    })
  },
  ...pushMethods,
  ...agentMethods
} as const
export type Methods = typeof methods
export type Method = keyof Methods
/** What a client sends after its `connect`. */
export type Call = Exclude<Method, "connect">
export type Params<M extends Method> = Methods[M]["params"]["Type"]
export type Result<M extends Method> = Methods[M]["result"]["Type"]

export const isMethod = (name: string): name is Method => Object.hasOwn(methods, name)

const seq = whole("Its number among this connection's: one more than that of the one before.")
const Presence = Schema.Struct({ seq, session: Schema.String, owner: Schema.String, ...Member.fields })

/** What the gateway tells. Those with a `seq` are told again to a connection that is resumed; the others are of the moment. */
export const events = {
  MESSAGE: {
    about: "Somebody said something in a session that was joined.",
    params: Schema.Struct({
      seq,
      session: Schema.String,
      owner: Schema.String,
      id: text("The message's: an answer is told once under it."),
      role: Schema.Literal("user", "assistant"),
      from: text("The principal, or the agent."),
      text: Schema.String,
      eventId: Schema.String,
      at: text("ISO 8601."),
      outcome: Schema.optional(
        described(Schema.Literal("completed", "failed"), "Of an answer: `failed` says that there is none.")
      ),
      cursor: Schema.optional(whole("Of an answer: where the session stands with it, for `since`."))
    })
  },
  CONNECT: { about: "Somebody has joined a session that was joined.", params: Presence },
  DISCONNECT: { about: "Somebody has left it, or is gone.", params: Presence },
  BROADCAST: {
    about: "Told to all.",
    params: Schema.Struct({ seq, from: Schema.String, text: Schema.String, at: text("ISO 8601.") })
  },
  GATEWAY: {
    about: "Something happened in the gateway.",
    params: Schema.Struct({
      seq,
      cursor: text("Of this event, for `since`."),
      event: open({ _tag: text("What happened, such as `PolicyDecisionMade`."), at: whole("Unix milliseconds.") })
    })
  },
  ERROR: {
    about: "Something that was asked comes to nothing, or the socket is about to be closed.",
    params: Schema.Struct({
      seq: Schema.optional(described(Schema.NonNegativeInt, "Where it is about what was asked.")),
      code: Schema.String,
      message: Schema.String,
      nextStep: Schema.String,
      session: Schema.optional(Schema.String),
      owner: Schema.optional(Schema.String),
      eventId: Schema.optional(Schema.String),
      channel: Schema.optional(text("That this connection does not hear any more."))
    })
  },
  GAP: {
    about: "Some notifications are missing here, and cannot be told any more.",
    params: Schema.Struct({
      missed: described(Schema.NullOr(Schema.NonNegativeInt), "How many; null: nobody knows."),
      nextStep: Schema.String
    })
  },
  HEARTBEAT: { about: "The gateway is there.", params: Schema.Struct({ at: whole("Unix milliseconds.") }) },
  ...pushEvents,
  ...agentEvents
} as const
export type Events = typeof events
export type EventType = keyof Events
/** A notification, with its method as `type`. */
export type Event = { readonly [T in EventType]: { readonly type: T } & Events[T]["params"]["Type"] }[EventType]

/** Why something is refused: stable codes, with the number JSON-RPC has for each. */
export const errors = {
  "parse-error": { number: -32_700, nextStep: "send one JSON object per text frame" },
  "invalid-request": { number: -32_600, nextStep: 'send { "jsonrpc": "2.0", "id", "method", "params" }' },
  "unknown-method": { number: -32_601, nextStep: "use a method of docs/protocol.md" },
  "invalid-params": { number: -32_602, nextStep: "send the parameters the method has in docs/protocol.md" },
  internal: { number: -32_603, nextStep: "try again; the gateway's log says why" },
  unauthorized: { number: -32_001, nextStep: "connect with a token that is in force" },
  forbidden: { number: -32_002, nextStep: "use a token with the scope, or ask who owns it" },
  "not-found": { number: -32_004, nextStep: "list what there is" },
  "not-connected": { number: -32_010, nextStep: "send `connect` first" },
  "already-connected": { number: -32_011, nextStep: "open another socket" },
  "version-mismatch": { number: -32_012, nextStep: "use a client that speaks a version the gateway has" },
  "too-many-connections": { number: -32_014, nextStep: "try again; the gateway has as many as it may have" },
  "too-many-subscriptions": { number: -32_015, nextStep: "unsubscribe from a channel first" },
  "too-many-sessions": { number: -32_013, nextStep: "leave a session first" },
  conflict: { number: -32_009, nextStep: "look at how it stands now" },
  "rate-limited": { number: -32_029, nextStep: "send less; try again when the minute is over" },
  unavailable: { number: -32_050, nextStep: "try again" },
  suppressed: { number: -32_051, nextStep: "nothing; a policy or a person kept it from the agent" },
  "slow-consumer": { number: -32_052, nextStep: "read faster; resume to get what was not sent" },
  "token-revoked": { number: -32_053, nextStep: "connect with another token" }
} as const
export type ErrorCode = keyof typeof errors

export const RpcError = Schema.Struct({
  code: described(Schema.Int, "The number of the code."),
  message: Schema.String,
  data: Schema.Struct({
    code: described(Schema.Literal(...(Object.keys(errors) as [ErrorCode, ...Array<ErrorCode>])), "Stable."),
    nextStep: Schema.String,
    retryAfterSeconds: Schema.optional(Schema.Number)
  })
})
export type RpcError = typeof RpcError.Type

export const RequestId = Schema.Union(Schema.Int, Schema.String.pipe(Schema.maxLength(LONGEST_NAME)))
export type RequestId = typeof RequestId.Type

/** Anything a client sends. */
export const Request = Schema.Struct({
  jsonrpc: Schema.Literal("2.0"),
  id: RequestId,
  method: Schema.String,
  params: Schema.optional(Schema.Unknown)
})
export type Request = typeof Request.Type

/** Anything the gateway sends: an answer, a refusal, or a notification. */
export const FromGateway = Schema.Union(
  // Before an answer: a result may be anything, also nothing.
  Schema.Struct({ jsonrpc: Schema.Literal("2.0"), id: Schema.NullOr(RequestId), error: RpcError }),
  Schema.Struct({ jsonrpc: Schema.Literal("2.0"), id: RequestId, result: Schema.Unknown }),
  Schema.Struct({
    jsonrpc: Schema.Literal("2.0"),
    method: Schema.Literal(...(Object.keys(events) as [EventType, ...Array<EventType>])),
    params: Schema.Unknown
  })
)
export type FromGateway = typeof FromGateway.Type

/** Why the gateway closes a socket. */
export const closeCodes = {
  protocol: 1008,
  tooBig: 1009,
  restart: 1012,
  /** There are too many connections, or this one did not read what it was told. */
  tryLater: 1013,
  /** Another socket has resumed the connection. */
  replaced: 4001
} as const
