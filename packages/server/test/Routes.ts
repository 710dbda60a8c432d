import type { Action } from "../src/Scopes.ts"

/** Every route that needs a token, and what one does there. */
export const routes: ReadonlyArray<{ readonly method: string; readonly path: string; readonly action: Action }> = [
  { method: "GET", path: "/status", action: "status" },
  { method: "GET", path: "/metrics", action: "metrics" },
  { method: "GET", path: "/budget", action: "budget" },
  { method: "GET", path: "/events/evt_1", action: "events.own" },
  { method: "GET", path: "/events/evt_1/explain", action: "events.explain" },
  { method: "GET", path: "/approvals", action: "approvals.list" },
  { method: "GET", path: "/approvals/apr_1", action: "approvals.list" },
  { method: "POST", path: "/approvals/apr_1/approve", action: "approvals.approve" },
  { method: "POST", path: "/approvals/apr_1/deny", action: "approvals.deny" },
  { method: "GET", path: "/deliveries", action: "deliveries.list" },
  { method: "POST", path: "/deliveries/dlv_1/replay", action: "deliveries.replay" },
  { method: "POST", path: "/deliveries/dlv_1/drop", action: "deliveries.drop" },
  { method: "POST", path: "/runs/run_1/abort", action: "run.abort" },
  { method: "POST", path: "/chat", action: "session.send" },
  { method: "GET", path: "/push/alerts", action: "push.subscribe" },
  { method: "POST", path: "/push/alerts", action: "push.publish" },
  { method: "POST", path: "/push/alerts/ack", action: "push.ack" },
  { method: "POST", path: "/push/alerts/nack", action: "push.nack" },
  { method: "GET", path: "/push/alerts/presence", action: "presence.query" },
  { method: "DELETE", path: "/push/alerts/subscriptions/pager", action: "push.unsubscribe" },
  { method: "GET", path: "/dead-letters", action: "push.dead-letters.list" },
  { method: "POST", path: "/dead-letters/dead_1/replay", action: "push.dead-letters.replay" },
  { method: "POST", path: "/dead-letters/dead_1/drop", action: "push.dead-letters.drop" },
  { method: "GET", path: "/tokens", action: "tokens.list" },
  { method: "POST", path: "/tokens", action: "tokens.create" },
  { method: "DELETE", path: "/tokens/tok_1", action: "tokens.revoke" },
  { method: "POST", path: "/release", action: "control" },
  ...["pause", "resume", "stop", "terminate"].flatMap((verb) =>
    ["", "/agents/agent"].map((agent) => ({ method: "POST", path: `${agent}/${verb}`, action: "control" as const }))
  )
]
