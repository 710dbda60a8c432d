import { GatewayService } from "@postilion/gateway"
import { Effect } from "effect"
import type { Handlers } from "./Operations.ts"

/** What was or is to be sent. */
export const deliveries = Effect.map(
  GatewayService,
  (gateway) =>
    ({
      list: ({ urlParams }) => Effect.map(gateway.deliveries(urlParams), (deliveries) => ({ deliveries })),
      replay: ({ path: { deliveryId } }, { principal: { name } }) => gateway.replayDelivery(deliveryId, name),
      drop: ({ path: { deliveryId } }, { principal: { name } }) => gateway.dropDelivery(deliveryId, name)
    }) satisfies Handlers<"deliveries">
)
