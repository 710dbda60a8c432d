export { EXIT } from "./Failure.ts"
export { run } from "./Run.ts"
