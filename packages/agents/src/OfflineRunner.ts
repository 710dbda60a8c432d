import type { AgentRunner } from "@postilion/gateway"
import { Layer } from "effect"
import * as LanguageModelRunner from "./LanguageModelRunner.ts"
import * as MaxOutputTokens from "./MaxOutputTokens.ts"
import * as OfflineModel from "./OfflineModel.ts"

/** Runs agents on the offline model: no network, no key, no intelligence, and answers that say so. */
export const layer = (options: OfflineModel.Options = {}): Layer.Layer<AgentRunner> =>
  LanguageModelRunner.layer({
    provider: "the offline model",
    model: OfflineModel.MODEL,
    limitOutput: MaxOutputTokens.limit
  }).pipe(Layer.provide(OfflineModel.layer(options)))
