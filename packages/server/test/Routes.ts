import * as HttpApi from "@effect/platform/HttpApi"
import { Api } from "@postilion/client/Api"
import { Action as Declared } from "@postilion/client/api/Fields"
import { Context, Option } from "effect"
import { type Action, named } from "../src/Scopes.ts"

interface Route {
  readonly method: string
  readonly path: string
  readonly action: Action
}

const found: Array<Route> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint: { method, path }, mergedAnnotations }) => {
    const action = Option.map(Context.getOption(mergedAnnotations, Declared), named)
    if (Option.isNone(action)) return
    found.push({ method, path: path.replace(":agentId", "agent").replace(/:\w+/g, "none"), action: action.value })
  }
})

/** Every operation that needs a token, and what one does there. */
export const routes: ReadonlyArray<Route> = found
