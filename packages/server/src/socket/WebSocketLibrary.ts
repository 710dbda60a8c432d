/// <reference path="./ws-types.d.ts" />
// One place that imports it, so that whoever compiles these sources finds its types.
export { WebSocket, WebSocketServer } from "ws"
