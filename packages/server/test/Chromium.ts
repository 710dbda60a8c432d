import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"
import { type Browser, chromium } from "playwright-core"
import { build } from "vite"
import type { InPage } from "./Page.ts"

/** The browser of the Debian package, or another. */
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium"

/** A name that this browser takes for this machine. */
export const ELSEWHERE = "elsewhere.example"

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  `--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1`
]

export const browser: Effect.Effect<Browser, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => chromium.launch({ executablePath: CHROMIUM, args: FLAGS })),
  (running) => Effect.promise(() => running.close())
)

/** `Page.ts` and all it imports, as one script for a browser; made once. */
const bundled = Effect.promise(async () => {
  const output = await build({
    configFile: false,
    logLevel: "warn",
    resolve: { conditions: ["@postilion/source", "browser", "module", "import", "default"] },
    build: {
      write: false,
      rollupOptions: { input: fileURLToPath(new URL("./Page.ts", import.meta.url)), output: { format: "iife" } }
    }
  })
  const [bundle] = Array.isArray(output) ? output : [output]
  if (bundle === undefined || !("output" in bundle)) throw new Error("nothing was bundled")
  return bundle.output[0].code
}).pipe(Effect.cached, Effect.runSync)

/** Serves an empty page with that script at this machine's address, and by the name `ELSEWHERE`. */
export const site = Effect.flatMap(bundled, (script) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>>((resume) => {
        const server = createServer((_, response) =>
          response
            .writeHead(200, { "content-type": "text/html; charset=utf-8" })
            .end(`<!doctype html><script>${script.replaceAll("</script", "<\\/script")}</script>`)
        )
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    ),
    (server) => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      return { origin: `http://127.0.0.1:${port}`, elsewhere: `http://${ELSEWHERE}:${port}` }
    }
  )
)

type Inside = <M extends keyof InPage>(
  method: M,
  ...args: Parameters<InPage[M]>
) => Effect.Effect<Awaited<ReturnType<InPage[M]>>>

/** Opens a page of this origin: calls what `Page.ts` has, in it. */
export const visit = (running: Browser, origin: string): Effect.Effect<Inside, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const page = await running.newPage()
      await page.goto(origin)
      return page
    }),
    (page) => Effect.promise(() => page.close())
  ).pipe(
    Effect.map(
      (page): Inside =>
        (method, ...args) =>
          Effect.promise(() =>
            page.evaluate(([method, args]) => Reflect.get(globalThis, "inPage")[method](...args), [
              method,
              args
            ] as const)
          )
    )
  )
