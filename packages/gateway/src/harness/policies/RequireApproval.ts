import * as Policy from "../Policy.ts"

/**
 * Priority 40. Events of these categories wait for a person. A category matches an event's `metadata.category`, or its
 * `metadata.type` whole or up to a dot (`deployment` matches `deployment.created`). No priority bypasses it.
 */
export const make = (categories: ReadonlyArray<string>) =>
  Policy.make("RequireApproval", {
    priority: 40,
    evaluate: (event, { approval }) => {
      if (approval !== null) return Policy.pass
      const { category, type } = event.metadata
      const match = categories.find(
        (name) => name === category || (typeof type === "string" && (type === name || type.startsWith(`${name}.`)))
      )
      return match === undefined ? Policy.pass : Policy.escalate(`"${match}" needs a person's approval`)
    }
  })
