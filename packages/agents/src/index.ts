// Providers are not exported here: each costs up to a second to import. Take `@postilion/agents/AnthropicRunner`,
// `@postilion/agents/OpenAiRunner` or `@postilion/agents/OpenAiCompatibleRunner`.
export * as LanguageModelRunner from "./LanguageModelRunner.ts"
export * as MaxOutputTokens from "./MaxOutputTokens.ts"
export * as OfflineModel from "./OfflineModel.ts"
export * as OfflineRunner from "./OfflineRunner.ts"
