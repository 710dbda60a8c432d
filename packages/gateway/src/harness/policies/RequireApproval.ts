import type { GatewayEvent } from "../../domain/GatewayEvent.ts"
import * as Policy from "../Policy.ts"

export interface RequireApprovalOptions {
  /**
   * Says what category an event is of, besides those it names itself; `undefined`: none. Must follow from the event alone. One
   * that throws has the event wait for a person.
   */
  readonly classify?: ((event: GatewayEvent) => string | undefined) | undefined
}

/**
 * Priority 40. Events of these categories wait for a person. A category matches an event's `metadata.category`, its
 * `metadata.type` whole or up to a dot (`deployment` matches `deployment.created`), what `classify` says it is, its agent
 * (`agent:<id>`), or the tool it is about (`tool:<name>`, by `metadata.tool`). No priority bypasses it.
 */
export const make = (categories: ReadonlyArray<string>, { classify }: RequireApprovalOptions = {}) =>
  Policy.make("RequireApproval", {
    priority: 40,
    evaluate: (event, { approval }) => {
      if (approval !== null) return Policy.pass
      const { category, tool, type } = event.metadata
      const names = new Set([category, classify?.(event), `agent:${event.agentId}`, `tool:${tool}`])
      const match = categories.find(
        (name) => names.has(name) || (typeof type === "string" && (type === name || type.startsWith(`${name}.`)))
      )
      return match === undefined ? Policy.pass : Policy.escalate(`"${match}" needs a person's approval`)
    }
  })
