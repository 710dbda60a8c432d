import type { WebhookConfig } from "../../domain/Config.ts"
import type { WebhookAdapter } from "../WebhookAdapter.ts"
import * as Generic from "./generic.ts"
import * as Github from "./github.ts"
import type { WebhookSender } from "./Sender.ts"

export interface BuiltIn {
  readonly adapter: (config: WebhookConfig) => WebhookAdapter
  readonly sender: (config: WebhookConfig) => WebhookSender
}

/** The adapters there are without adding any, by name, each with its other side. A map, because names come from files. */
export const BUILT_IN: ReadonlyMap<string, BuiltIn> = new Map<string, BuiltIn>([
  ["github", { adapter: () => Github.github, sender: () => Github.sender }],
  ["generic", { adapter: Generic.make, sender: Generic.sender }]
])
