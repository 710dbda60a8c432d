import { type Approval, GatewayService } from "@postilion/gateway"
import { Effect } from "effect"
import type { Handlers } from "./Operations.ts"
import { notFound } from "./Refusals.ts"

const answered = ({ approvers, digest, id, state, votes }: Approval, by: string) => ({
  id,
  state,
  by,
  digest,
  approvers,
  votes
})

/** What waits for a person, and what persons answer. */
export const approvals = Effect.map(
  GatewayService,
  (gateway) =>
    ({
      list: () => Effect.map(gateway.approvals, (approvals) => ({ approvals })),
      show: ({ path: { approvalId } }) =>
        Effect.flatMap(gateway.approval(approvalId), (found) =>
          found === undefined ? notFound(`there is no approval "${approvalId}"`) : Effect.succeed(found)
        ),
      approve: ({ path: { approvalId }, payload }, { principal: { name } }) =>
        Effect.map(gateway.approve(approvalId, name, payload), (approval) => answered(approval, name)),
      deny: ({ path: { approvalId } }, { principal: { name } }) =>
        Effect.map(gateway.deny(approvalId, name), (approval) => answered(approval, name))
    }) satisfies Handlers<"approvals">
)
