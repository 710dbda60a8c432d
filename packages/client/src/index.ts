export { Api } from "./Api.ts"
export * as ApiClient from "./ApiClient.ts"
export { ApiProblem } from "./api/Problem.ts"
