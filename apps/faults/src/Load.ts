import { createHmac } from "node:crypto"
import { setTimeout as pause } from "node:timers/promises"
import type { Child } from "./Child.ts"
import type { Dice } from "./Dice.ts"
import { PRINCIPALS, type Principal, SECRET } from "./Protocol.ts"
import type { Witness } from "./Witness.ts"

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

const ANSWER_WITHIN = 15_000
const LONGEST_PAUSE = 12
const MOST_AT_ONCE = 4
const PEOPLE = ["ada", "bob"] as const

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null

/** The server's answer; `undefined` when the connection ended without one. */
export const request = async (
  url: string,
  path: string,
  init: { readonly as?: Principal; readonly headers?: Record<string, string>; readonly body?: string } = {},
  signal?: AbortSignal
): Promise<Answer | undefined> => {
  try {
    const timeout = AbortSignal.timeout(ANSWER_WITHIN)
    const response = await fetch(`${url}${path}`, {
      method: init.body === undefined ? "GET" : "POST",
      headers: {
        "content-type": "application/json",
        ...(init.as === undefined ? {} : { authorization: `Bearer ${PRINCIPALS[init.as]}` }),
        ...init.headers
      },
      ...(init.body === undefined ? {} : { body: init.body }),
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal])
    })
    const body: unknown = await response.json()
    return { status: response.status, body: isObject(body) ? body : {} }
  } catch {
    // Cut off with the server, or never connected: whether it was kept is for the records to say.
    return undefined
  }
}

export interface LoadOptions {
  readonly child: Child
  readonly url: string
  readonly dice: Dice
  readonly witness: Witness
}

/** Has one person, or both, answer one of what waits for them, as chance has it. */
export const answerOne = async ({ child, dice, url, witness }: LoadOptions): Promise<void> => {
  const gone = new AbortController()
  void child.ended.then(() => gone.abort())
  const pending = (await request(url, "/approvals", { as: "ada" }, gone.signal))?.body.approvals
  const [first] = Array.isArray(pending) ? pending.slice(dice.int(0, 1)) : []
  const id: unknown = isObject(first) ? first.id : undefined
  if (typeof id !== "string") return
  const people = dice.chance(0.4) ? PEOPLE : [dice.pick(PEOPLE)]
  const answer = async (by: Principal, verb: "approve" | "deny"): Promise<void> => {
    const given = await request(url, `/approvals/${id}/${verb}`, { as: by, body: "{}" }, gone.signal)
    if (given?.status !== 200 && given?.status !== 409) return
    const state = verb === "approve" ? "approved" : "denied"
    witness.verdicts.push({ approvalId: id, state, by, status: given.status })
  }
  await Promise.all(people.map((by) => answer(by, dice.chance(0.7) ? "approve" : "deny")))
}

/** Mixed load on one life of the server, from when it listens until it has ended. */
export const load = async ({ child, dice, url, witness }: LoadOptions): Promise<void> => {
  const gone = new AbortController()
  void child.ended.then(() => gone.abort())
  const post = (path: string, body: object, headers: Record<string, string>, as?: Principal) =>
    request(url, path, { headers, body: JSON.stringify(body), ...(as === undefined ? {} : { as }) }, gone.signal)

  const deliver = (key: string): Promise<Answer | undefined> => {
    const [kind = "", number = ""] = key.split("-")
    if (kind === "note") return post("/webhooks/notes", { type: "note", key }, { "x-delivery-id": key })
    const repository = { full_name: `octo/${Number(number) % 3}` }
    const event = kind === "deploy" ? "deployment" : kind === "pr" ? "pull_request" : "star"
    const payload = { key, action: "opened", repository, pull_request: { number: Number(number), title: key } }
    const signature = createHmac("sha256", SECRET).update(JSON.stringify(payload)).digest("hex")
    return post("/webhooks/github", payload, {
      "x-github-event": event,
      "x-github-delivery": key,
      "x-hub-signature-256": `sha256=${signature}`
    })
  }
  const note = (key: string, sentAt: number, answer: Answer | undefined): void => {
    const eventId = answer?.body.eventId
    if (answer?.status !== 202 || typeof eventId !== "string") return
    witness.taken.push({ key, sentAt, answeredAt: performance.now() })
    if (answer.body.status === "duplicate") witness.repeated.push({ key, eventId })
    else witness.accepted.set(key, eventId)
  }
  const deliverAndNote = async (key: string): Promise<Answer | undefined> => {
    const sentAt = performance.now()
    const answer = await deliver(key)
    note(key, sentAt, answer)
    return answer
  }
  const webhooks = async (kinds: readonly [string, ...ReadonlyArray<string>]): Promise<void> => {
    const known = [...witness.accepted.keys()].find((key) => kinds.includes(key.split("-")[0] ?? ""))
    if (known !== undefined) await deliverAndNote(known)
    while (child.isAlive()) {
      const key = witness.nextKey(dice.pick(kinds))
      // Now and then the same delivery twice at once: both are answered, and there is one event.
      const times = dice.chance(0.1) ? [1, 2] : [1]
      const answers = await Promise.all(times.map(() => deliverAndNote(key)))
      if (answers.every((answer) => answer !== undefined && answer.status !== 202)) witness.refused.add(key)
      else if (witness.accepted.has(key) && dice.chance(0.1)) await deliverAndNote(key)
      await pause(dice.int(0, LONGEST_PAUSE))
    }
  }
  const say = async (sender: Principal, chatId: string): Promise<void> => {
    const key = witness.nextKey("chat")
    const sentAt = performance.now()
    const answer = await post("/chat", { text: key, chatId }, {}, sender)
    const eventId = answer?.body.eventId
    if (answer?.status === 503 && String(answer.body.detail).includes("sessions.maxWaiting")) {
      witness.refused.add(key)
      witness.full += 1
    }
    if (answer === undefined || typeof eventId !== "string") return
    witness.accepted.set(key, eventId)
    if (answer.status !== 200) return
    const reply = typeof answer.body.reply === "string" ? answer.body.reply : null
    witness.heard.push({ key, eventId, reply, sentAt, answeredAt: performance.now(), sender, chatId })
  }
  /** Says one thing after the other, and now and then several without waiting for the first's answer. */
  const chat = async (sender: Principal, chatId: string): Promise<void> => {
    while (child.isAlive()) {
      const times = dice.chance(0.3) ? dice.int(2, MOST_AT_ONCE) : 1
      await Promise.all(Array.from({ length: times }, () => say(sender, chatId)))
      await pause(dice.int(0, LONGEST_PAUSE))
    }
  }
  const approver = async (): Promise<void> => {
    while (child.isAlive()) {
      await answerOne({ child, dice, url, witness })
      await pause(dice.int(0, 4 * LONGEST_PAUSE))
    }
  }
  await Promise.all([
    webhooks(["note"]),
    webhooks(["pr", "star"]),
    webhooks(["deploy", "pr"]),
    chat("ada", "one"),
    chat("ada", "two"),
    chat("bob", "one"),
    approver()
  ])
}
