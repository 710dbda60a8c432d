import * as Policy from "../Policy.ts"

/**
 * Priority 50. Events with the same `metadata.mergeKey` are held from the first one on for `mergeWindowMs`, and then handled
 * by one run. `critical` events do not wait.
 */
export const make = (options: { readonly mergeWindowMs: number }) =>
  Policy.make("EventMerging", {
    priority: 50,
    evaluate: (event, { merge }) => {
      const { mergeKey } = event.metadata
      if (typeof mergeKey !== "string" || merge !== null || event.priority === "critical") return Policy.pass
      return Policy.merge({ mergeKey, windowMs: options.mergeWindowMs })
    }
  })
