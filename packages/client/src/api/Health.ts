import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { described } from "./Fields.ts"
import { Unavailable } from "./Problem.ts"

const states = <const S extends string>(status: S, description: string) =>
  described(Schema.Struct({ status: Schema.Literal(status) }), description)

/** What is asked by whatever keeps the process running. */
export const Health = HttpApiGroup.make("health")
  .annotate(OpenApi.Description, "For whatever keeps the process running. Without a token.")
  .add(
    HttpApiEndpoint.get("live", "/livez")
      .annotate(OpenApi.Description, "Whether the process lives.")
      .addSuccess(states("ok", "It does."))
  )
  .add(
    HttpApiEndpoint.get("started", "/startupz")
      .annotate(OpenApi.Description, "Whether the gateway has started.")
      .addSuccess(states("started", "It has."))
      .addError(Unavailable)
  )
  .add(
    HttpApiEndpoint.get("ready", "/readyz")
      .annotate(
        OpenApi.Description,
        "Whether it is of use to send something here. `held`: it is kept, and not run yet."
      )
      .addSuccess(
        Schema.Struct({ status: Schema.Literal("ready", "held") }).annotations({ description: "What is sent is kept." })
      )
      .addError(Unavailable)
  )
