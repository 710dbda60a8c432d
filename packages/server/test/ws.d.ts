/// <reference path="../src/socket/ws.d.ts" />
