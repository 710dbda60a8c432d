import * as HttpApi from "@effect/platform/HttpApi"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Approvals } from "./api/Approvals.ts"
import { Audit, AuditLine, Verified } from "./api/Audit.ts"
import { Chat } from "./api/Chat.ts"
import { Deliveries } from "./api/Deliveries.ts"
import { Events } from "./api/Events.ts"
import { Gateway, Switches } from "./api/Gateway.ts"
import { Health } from "./api/Health.ts"
import { Jobs } from "./api/Jobs.ts"
import { Policies } from "./api/Policies.ts"
import { DeadLetters, Push } from "./api/Push.ts"
import { Runs } from "./api/Runs.ts"
import { SessionLine, Sessions } from "./api/Sessions.ts"
import { Tokens } from "./api/Tokens.ts"

/**
 * Without the error for what cannot be decoded that `HttpApi.make` puts in: here that is a problem (RFC 9457), like every refusal.
 * Nothing of the library makes an API without it, hence the cast.
 */
const empty = Object.assign(HttpApi.make("postilion"), { errorSchema: Schema.Never }) as unknown as HttpApi.HttpApi<
  "postilion",
  never
>

/**
 * The gateway's REST API, declared once: the server serves it, the client is derived from it, and so is the OpenAPI document.
 * Webhooks are not part of it: what they take is for their adapters to say.
 */
export const Api = empty
  .annotate(OpenApi.Title, "Postilion")
  .annotate(OpenApi.Version, "1")
  .annotate(
    OpenApi.Description,
    "What a Postilion gateway can be asked over HTTP. Refusals are problem documents (RFC 9457). What runs into `maxBodyBytes` and `bodyTimeoutMs` is answered 413 and 408."
  )
  .annotate(HttpApi.AdditionalSchemas, [AuditLine, Verified, SessionLine])
  .add(Gateway)
  .add(Switches)
  .add(Events)
  .add(Approvals)
  .add(Deliveries)
  .add(Runs)
  .add(Push)
  .add(DeadLetters)
  .add(Chat)
  .add(Sessions)
  .add(Jobs)
  .add(Policies)
  .add(Audit)
  .add(Tokens)
  .add(Health)
export type Api = typeof Api
