/// <reference path="../src/socket/ws-types.d.ts" />
