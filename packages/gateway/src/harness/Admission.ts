import { Clock, Context, Effect, Either, Exit, FiberMap, Layer, Runtime, Schedule } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { GatewayError } from "../domain/Errors.ts"
import type { RawInput } from "../domain/GatewayEvent.ts"
import { makeIds } from "../domain/Ids.ts"
import type { Action } from "../domain/PolicyDecision.ts"
import * as Alarm from "../internal/Alarm.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { EventBus } from "../records/EventBus.ts"
import { toRow, typeOf } from "../records/EventCodec.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store } from "../records/Store.ts"
import { Dispatcher } from "../runs/Dispatcher.ts"
import { Outbox } from "../runs/Outbox.ts"
import type { Abandoned } from "../runs/RunSteps.ts"
import { type Answer, make as makeAnswering } from "./Answering.ts"
import { make as makeApprovals } from "./Approvals.ts"
import { type Cause, causeOf } from "./Causes.ts"
import type { Answers, Suspended } from "./Chain.ts"
import { HeartbeatHistory } from "./HeartbeatHistory.ts"
import { type Hold, Holds, load as loadHolds, RECHECK_AFTER } from "./Holds.ts"
import * as InputRouter from "./InputRouter.ts"
import { make as makeJudging } from "./Judging.ts"
import { PolicyEngine } from "./PolicyEngine.ts"
import { load as loadCounts, RecentCounts } from "./RecentCounts.ts"
import { make as makeRechecks } from "./Rechecks.ts"
import { make as makeRefusals } from "./Refusals.ts"
import { type Case, make as makeVerdict } from "./Verdict.ts"

/** What whoever hands in an event gets once it is committed. */
export interface Receipt {
  readonly eventId: string
  /** The input was already known under its idempotency key; `eventId` is the first one's. */
  readonly duplicate: boolean
  /** The first decision, when the policies answered at once. */
  readonly decision: Action | undefined
}

export interface AdmissionShape {
  /**
   * Makes an input durable, and judges it. Succeeds once it is on disk. Fails, and keeps nothing, when the input is
   * invalid (`invalid-input`), the agent is stopped (`stopped`), the gateway is closing (`draining`) or busy
   * (`overloaded`), or the write failed (`storage`).
   *
   * `also` runs in the same step: what it writes commits with the event.
   */
  readonly submit: (input: RawInput, also?: (tx: Tx, receipt: Receipt) => void) => Effect.Effect<Receipt, GatewayError>
  /** `submit` for plain code, which is told by `done`: it costs no fiber where nothing has to be looked up first. */
  readonly unsafeSubmit: (
    input: RawInput,
    done: (exit: Exit.Exit<Receipt, GatewayError>) => void,
    also?: (tx: Tx, receipt: Receipt) => void
  ) => void
  /** Within a step: has a person say whether the event of a run that came to nothing has another. */
  readonly escalate: (tx: Tx, failed: Abandoned, policy: string) => void
  /**
   * Answers an approval. Fails when there is none of this id (`not-found`), or with `conflict` when it has been decided
   * otherwise or by others, or when what would run has changed; then the approval shows what would run now.
   */
  readonly answer: Answer
  /** How many events are held, by why. */
  readonly held: () => Holds["counts"]
  /** Judges what an earlier process accepted and did not decide, and from here on what is due. Once, at start. */
  readonly resume: Effect.Effect<void>
  /** Refuses everything from here on. */
  readonly close: Effect.Effect<void>
}

/** The door every event comes through: accepted, judged and recorded in one step. */
export class Admission extends Context.Tag("@postilion/gateway/Admission")<Admission, AdmissionShape>() {}

/** Held events judged in one step. */
const STEP_SIZE = 250
/** Whether it waits for a time that policies named. What waits for a person has its whole time at least. */
const isTimed = ({ kind, onChange }: Hold): boolean => kind === "merging" || (kind === "queued" && !onChange)

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const bus = yield* EventBus
    const engine = yield* PolicyEngine
    const dispatcher = yield* Dispatcher
    const route = InputRouter.make(config, (yield* Outbox).channels)
    const [newest] = yield* store.find("events", { orderBy: ["id", "desc"], limit: 1 })
    // Which of two messages is the newer one is told by their ids, also after a clock was set back.
    const nextId = makeIds(newest?.id)
    const holds = new Holds()
    const heartbeats = new HeartbeatHistory()
    const chains = new RecentCounts()
    const senders = new RecentCounts()
    const deciding = yield* FiberMap.make<string>()
    const alarm: Alarm.Alarm = yield* Alarm.make(
      "holds",
      (ids) => onDue(ids),
      STEP_SIZE,
      Effect.suspend(() => rejudgeTimed)
    )
    const resumed = yield* Effect.makeLatch()
    const approvals = yield* makeApprovals(config)
    const verdict = yield* makeVerdict(config, holds, approvals, heartbeats, alarm)
    const { apply, escalate, hold, record, toDispatch } = verdict
    const clock = yield* Effect.clock
    let lastSeq = 0

    const { judge, taskIfApproved } = yield* makeJudging(config, { holds, approvals, heartbeats, senders, toDispatch })
    const { close, overload, refusal } = yield* makeRefusals(config, holds)

    /** Judges in one go and applies it; an event that has to wait for a policy is kept as undecided. */
    const decide = (tx: Tx, subject: Case, answers?: Answers): Action | Suspended => {
      const judged = judge(subject, tx.now, answers)
      if (judged._tag === undefined) {
        apply(tx, subject, judged.state, judged.judgement, judged.task)
        return judged.judgement.decision.action
      }
      const { agentId, event, held, row } = subject
      const data = { source: event.source, agentId }
      const accepted =
        row === undefined
          ? {}
          : ({ held: 1, accepted_seq: audit.append(tx, { kind: "event.accepted", eventId: event.id, data }) } as const)
      if (held === undefined) {
        record(tx, subject, { state: "accepted", ...accepted })
        hold(subject, { kind: "undecided", dueAt: undefined, onChange: false })
      }
      tx.onCommit(() => awaitAnswer(subject.event.id, judged, answers))
      return judged
    }
    const runDeciding = yield* FiberMap.runtime(deciding)<never>()
    /** Waits for a policy's answer, and judges again with it. */
    const awaitAnswer = (id: string, suspended: Suspended, answers: Answers = new Map()): void => {
      runDeciding(
        id,
        Effect.gen(function* () {
          const answered = new Map(answers).set(suspended.policy, yield* suspended.answer)
          yield* rejudge([id], answered).pipe(Effect.retry(Schedule.spaced("1 second")), Effect.ignoreLogged)
        })
      )
    }
    /** Judges held events again, and lets approvals that are due expire. */
    const rejudge = (ids: ReadonlyArray<string>, answers?: Answers) =>
      journal.step((tx) => {
        for (const id of ids) {
          const held = holds.get(id)
          if (held === undefined) continue
          if (held.kind === "approval") expire(tx, held)
          else decide(tx, { ...held, row: undefined, held }, answers)
        }
      })
    const { answer, expire } = yield* makeAnswering({ holds, approvals, verdict, decide, taskIfApproved })

    // Not before the runs of an earlier process are taken up: one that is recorded now would be taken for one of them.
    const onDue = (ids: ReadonlyArray<string>) =>
      resumed.whenOpen(rejudge(ids)).pipe(
        Effect.catchAll((error) => {
          // Loaded again after the failure, the holds are due again: the alarm comes back to them.
          return Effect.zipRight(Effect.logError("judging held events failed", error), Effect.sleep("1 second"))
        })
      )

    const judgePages = (ids: ReadonlyArray<string>) => {
      const pages: Array<ReadonlyArray<string>> = []
      for (let from = 0; from < ids.length; from += STEP_SIZE) pages.push(ids.slice(from, from + STEP_SIZE))
      return Effect.forEach(pages, onDue, { discard: true })
    }
    /** The clock was set back: what waits for a time is not to wait until the clock is again where it was. */
    const rejudgeTimed = Effect.suspend(() =>
      judgePages([...holds.values()].filter((held) => isTimed(held)).map(({ event }) => event.id))
    )

    yield* journal.register(
      Effect.gen(function* () {
        const [last] = yield* store.find("events", { orderBy: ["seq", "desc"], limit: 1 })
        lastSeq = last?.seq ?? 0
        yield* heartbeats.load(store, Object.keys(config.agents))
        yield* loadHolds(store, holds)
        alarm.reset()
        const now = yield* Clock.currentTimeMillis
        yield* loadCounts(chains, store, "chain_root", now)
        yield* loadCounts(senders, store, "sender", now)
        const isSetBack = last !== undefined && last.received_at > now + Alarm.SET_BACK
        for (const held of holds.values()) {
          const { dueAt, event, onChange } = held
          if (onChange) alarm.set(event.id, now + RECHECK_AFTER)
          else if (dueAt !== undefined) alarm.set(event.id, isSetBack && isTimed(held) ? now : dueAt)
        }
      })
    )

    const admit = (tx: Tx, routed: InputRouter.Routed, cause: Cause | undefined): Receipt | GatewayError => {
      const { agentId, source } = routed.event
      if (tx.duplicateOf !== undefined) {
        tx.publish({ _tag: "DuplicateReceived", at: tx.now, eventId: tx.duplicateOf, agentId, source })
        return { eventId: tx.duplicateOf, duplicate: true, decision: undefined }
      }
      const full = overload(tx, agentId, routed.event.sessionKey)
      if (full !== undefined) return full
      const id = nextId("evt", tx.now)
      const chain = cause && { ...cause, count: chains.add(cause.root, tx.now) }
      const event = { id, ...routed.event, ...(chain === undefined ? {} : { chain }) }
      if (event.sender !== undefined) senders.add(event.sender, tx.now)
      tx.publish({
        _tag: "GatewayEventReceived",
        at: tx.now,
        eventId: id,
        agentId,
        source,
        priority: event.priority,
        type: typeOf(event)
      })
      if (source === "heartbeat") heartbeats.came(agentId, id)
      else if (chain === undefined) heartbeats.changed(agentId)
      lastSeq += 1
      const row = toRow(event, { seq: lastSeq, receivedAt: tx.now, ...routed })
      const decision = decide(tx, {
        event,
        agentId,
        payloadText: routed.payloadText,
        members: [],
        mergeKey: undefined,
        approval: undefined,
        abandoned: undefined,
        row,
        held: undefined
      })
      return { eventId: id, duplicate: false, decision: typeof decision === "string" ? decision : undefined }
    }

    const runCallback = Runtime.runCallback(yield* Effect.runtime<never>())
    const unsafeSubmit: AdmissionShape["unsafeSubmit"] = (input, done, also) => {
      const routed = Either.flatMap(route(input, clock.unsafeCurrentTimeMillis()), (routed) => {
        const refused = refusal(routed.event.agentId)
        return refused === undefined ? Either.right(routed) : Either.left(refused)
      })
      if (Either.isLeft(routed)) {
        done(Exit.fail(routed.left))
        return
      }
      const { causedBy } = routed.right.event
      const accept = (cause: Cause | undefined): void =>
        journal.unsafeStep(
          (tx) => {
            const receipt = admit(tx, routed.right, cause)
            if (!(receipt instanceof GatewayError)) also?.(tx, receipt)
            return receipt
          },
          (exit) =>
            done(
              Exit.flatMap(exit, (receipt) =>
                receipt instanceof GatewayError ? Exit.fail(receipt) : Exit.succeed(receipt)
              )
            ),
          { dedupeKey: routed.right.dedupeKey, sheddable: true }
        )
      if (causedBy === undefined) accept(undefined)
      else {
        const found = { onFailure: (error: GatewayError) => done(Exit.fail(error)), onSuccess: accept }
        runCallback(Effect.match(causeOf(store, causedBy), found))
      }
    }

    /** Judges again what is queued without a time; a great many of them not more often than once a second. */
    const recheck = Effect.suspend((): Effect.Effect<void> => {
      const ids: Array<string> = []
      for (const held of holds.values()) if (held.kind === "queued" && held.onChange) ids.push(held.event.id)
      const judged = judgePages(ids)
      return ids.length > STEP_SIZE ? Effect.zipRight(judged, Effect.sleep("1 second")) : judged
    })

    yield* makeRechecks(recheck)
    yield* bus.listen((event) => {
      // What a conversation has gained is news to the agent's heartbeat.
      if (event._tag === "ProactiveActionCompleted" && event.sessionKey !== undefined && event.causedBy === undefined) {
        heartbeats.changed(event.agentId)
      }
    })
    yield* dispatcher.onAbandoned((tx, abandoned) => escalate(tx, abandoned))
    /** What the chain is now, recorded: also where it changes again before that is written. */
    let changes = 0
    yield* engine.onChange(() => {
      const policies = engine.policies.map(({ _tag, priority }) => ({ policy: _tag, priority }))
      const shadows = engine.shadowReport().map(({ policy, priority }) => ({ policy, priority }))
      const data = { policies, ...(shadows.length === 0 ? {} : { shadows }) }
      const record = journal.step((tx) => audit.append(tx, { kind: "policy.changed", data }))
      changes += 1
      runDeciding(`policy.changed:${changes}`, Effect.ignoreLogged(record))
    })

    return Admission.of({
      submit: (input, also) => Effect.async((resume) => unsafeSubmit(input, resume, also)),
      unsafeSubmit,
      escalate,
      answer,
      held: () => holds.counts,
      resume: Effect.suspend(() => {
        const ids: Array<string> = []
        for (const held of holds.values()) if (held.kind === "undecided") ids.push(held.event.id)
        const decideAll = Effect.forEach(ids, (id) => rejudge([id]), { discard: true, concurrency: STEP_SIZE })
        return decideAll.pipe(Effect.retry(Schedule.spaced("1 second")), Effect.orDie, Effect.zipRight(resumed.open))
      }),
      close: Effect.sync(close)
    })
  })

export const layer = (config: GatewayConfig) => Layer.scoped(Admission, make(config))
