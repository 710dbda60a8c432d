export * as Protocol from "./Protocol.ts"
