export * as Client from "./Client.ts"
export { ClientError } from "./ClientError.ts"
export { type Connection, connect } from "./connect.ts"
export * as Protocol from "./Protocol.ts"
