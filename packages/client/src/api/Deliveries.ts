import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { DeliveryState } from "@postilion/gateway/domain/Delivery"
import { Schema } from "effect"
import { Action, limit, name, whole } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unprocessable } from "./Problem.ts"
import { Delivery } from "./Runs.ts"

const DeliveryId = Schema.Struct({ deliveryId: name("The delivery.") })

/** What was or is to be sent. */
export const Deliveries = HttpApiGroup.make("deliveries")
  .annotate(OpenApi.Description, "What was or is to be sent. Dead letters are those that have `failed`.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/deliveries")
      .annotate(Action, "deliveries.list")
      .annotate(OpenApi.Description, "Deliveries, in the order they were prepared.")
      .setUrlParams(
        Schema.Struct({
          state: Schema.optional(DeliveryState),
          after: whole(0, Number.MAX_SAFE_INTEGER, "Only those after this `seq`."),
          limit: limit(1_000, 1_000)
        })
      )
      .addSuccess(Schema.Struct({ deliveries: Schema.Array(Delivery) }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.post("replay", "/deliveries/:deliveryId/replay")
      .annotate(Action, "deliveries.replay")
      .annotate(OpenApi.Description, "Has one that failed, is unknown or was dropped tried again.")
      .setPath(DeliveryId)
      .addSuccess(Delivery)
      .addError(NotFound)
      .addError(Conflict)
  )
  .add(
    HttpApiEndpoint.post("drop", "/deliveries/:deliveryId/drop")
      .annotate(Action, "deliveries.drop")
      .annotate(OpenApi.Description, "Gives one up.")
      .setPath(DeliveryId)
      .addSuccess(Delivery)
      .addError(NotFound)
      .addError(Conflict)
  )
