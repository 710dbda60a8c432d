import { type ChildProcess, execFile, spawn } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, describe, expect, it } from "vitest"

const root = join(import.meta.dirname, "..")
/** Inside the app that depends on every package, so that the documents' imports resolve as a user's would. */
const workshop = join(root, "apps/demo/.docs")
const exec = promisify(execFile)
const node = [process.execPath, "--conditions=@postilion/source", "--import", "tsx"] as const

const documents = ["README.md", "CONTRIBUTING.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)]
const textOf = (document: string): string => readFileSync(join(root, document), "utf8")
const blocksOf = (document: string, language: string): ReadonlyArray<string> =>
  [...textOf(document).matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, code = ""]) => code)

/** Each document's programs, in a folder of their own. */
rmSync(workshop, { recursive: true, force: true })
const programs = documents.flatMap((document) =>
  blocksOf(document, "ts").map((code, i) => {
    const folder = join(workshop, document.replaceAll(/\W/g, "-"), String(i + 1))
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, "program.ts"), code)
    return { name: `${document}, block ${i + 1}`, document, folder, file: join(folder, "program.ts"), code }
  })
)
writeFileSync(
  join(workshop, "tsconfig.json"),
  JSON.stringify({
    extends: "../../../tsconfig.base.json",
    compilerOptions: { noEmit: true, composite: false, incremental: false, noUnusedLocals: false },
    include: ["**/*.ts"]
  })
)
afterAll(() => rmSync(workshop, { recursive: true, force: true }))

/** Programs that serve until they are told to stop; the others end by themselves. */
const serves = (code: string): boolean => /(Layer|Postilion)\.launch\(/.test(code)

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer().on("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** Waits until the gateway at `url` is ready; fails when its process has ended. */
const ready = async (url: string, folder: string, child: ChildProcess): Promise<void> => {
  const trusted = url.startsWith("https:") ? ["--cacert", join(folder, "tls.crt")] : []
  while (child.exitCode === null) {
    const answered = await exec("curl", ["--fail", "--silent", ...trusted, `${url}/readyz`]).catch(() => undefined)
    if (answered !== undefined) return
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error(`the gateway ended with status ${child.exitCode}`)
}

describe("the documents", () => {
  it("have programs that compile", { timeout: 120_000 }, async () => {
    expect(programs.length).toBeGreaterThan(3)
    const problems = await exec(join(root, "node_modules/.bin/tsc"), ["-p", workshop], { cwd: root }).then(
      () => "",
      (error: { readonly stdout: string }) => error.stdout
    )
    expect(problems).toBe("")
  })

  it.each(programs.filter(({ code }) => !serves(code)))(
    "$name runs",
    { timeout: 60_000 },
    async ({ code, file, folder }) => {
      const port = await freePort()
      // Its door would be the machine's 8765, which may be taken.
      writeFileSync(
        file,
        code.replace(/(?:Postilion\.layer|createGateway)\(\{/, (opening) => `${opening} port: ${port},`)
      )
      const { stderr, stdout } = await exec(node[0], [...node.slice(1), file], { cwd: folder })
      expect(stderr).toBe("")
      if (code.includes("console.log") || code.includes("Console.log")) expect(stdout).not.toBe("")
    }
  )

  /** The commands of a part of a document. */
  const commands = (part: string) => [...part.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = ""]) => block)
  /** Has commands done where a gateway listens at another port than they say. What they print. */
  const shell = (port: string, cwd: string, env: NodeJS.ProcessEnv) => async (block: string) =>
    (await exec("bash", ["-euo", "pipefail", "-c", block.replaceAll("8765", port)], { env, cwd })).stdout

  /** Starts a document's gateway, and has its commands done: those above it before it starts. What they answered, in order. */
  const conversation = async (document: string, variables: Record<string, string>): Promise<ReadonlyArray<string>> => {
    const {
      code = "",
      file = "",
      folder = ""
    } = programs.find((program) => program.document === document && serves(program.code)) ?? {}
    const port = String(await freePort())
    const env = { ...process.env, ...variables }
    writeFileSync(file, code.replaceAll("8765", port))
    const text = textOf(document)
    const [before = "", after = ""] = text.split(code)
    const answers: Array<string> = []
    const run = shell(port, folder, env)
    for (const block of commands(before)) answers.push(await run(block))
    const child = spawn(node[0], [...node.slice(1), file], { cwd: folder, env, stdio: "inherit" })
    const ended = new Promise<number | null>((resolve) => child.on("exit", resolve))
    try {
      await ready(code.includes("ssl:") ? `https://localhost:${port}` : `http://127.0.0.1:${port}`, folder, child)
      for (const block of commands(after)) answers.push(await run(block))
    } finally {
      child.kill("SIGTERM")
    }
    expect(await ended).toBe(0)
    return answers
  }

  it("docs/http.md: its gateway starts, its commands succeed, and SIGTERM ends it with status 0", {
    timeout: 60_000
  }, async () => {
    const variables = { TOKEN: "t0ken" }
    const [chat = "", seen = "", switched = "", release = "", channel = ""] = await conversation(
      "docs/http.md",
      variables
    )
    expect(channel).toContain('"data":{"disk":"91%"}}],"cursor":1,"missed":0}')
    expect(JSON.parse(release)).toEqual({ released: false, by: "ada" })
    expect(switched).toBe(
      '{"agentId":"agent","mode":"paused","by":"ada"}{"agentId":"agent","mode":"running","by":"ada"}'
    )
    expect(JSON.parse(chat)).toMatchObject({ decision: "execute", reply: expect.stringContaining("offline model") })
    expect(seen).toContain("# TYPE postilion_webhooks_received_total counter\n")
  })

  it("docs/webhooks.md: the gateway of its file takes what its commands send", { timeout: 600_000 }, async () => {
    const cwd = join(workshop, "docs-webhooks-md", "file")
    const port = String(await freePort())
    mkdirSync(cwd, { recursive: true })
    const [file = ""] = blocksOf("docs/webhooks.md", "yaml")
    writeFileSync(join(cwd, "gateway.yaml"), file.replace("8765", port))
    const command = [...node, join(root, "packages/cli/src/main.ts")]
    writeFileSync(join(cwd, "postilion"), `#!/bin/sh\nexec ${command.map((word) => `'${word}'`).join(" ")} "$@"\n`, {
      mode: 0o755
    })
    const run = shell(port, cwd, { ...process.env, PATH: `${cwd}:${process.env.PATH}` })
    const [secrets = "", ...after] = commands(textOf("docs/webhooks.md"))
    await run(secrets)
    const child = spawn(join(cwd, "postilion"), ["start", "--log-format", "json"], { cwd, stdio: "ignore" })
    const ended = new Promise<number | null>((resolve) => child.on("exit", resolve))
    const answers: Array<string> = []
    try {
      await ready(`http://127.0.0.1:${port}`, cwd, child)
      for (const block of after) answers.push(await run(block))
    } finally {
      child.kill("SIGTERM")
    }
    expect(await ended).toBe(0)
    const [tried = "", signed = "", bySsl = ""] = answers
    expect(tried).toMatch(/escalate.*RequireApproval/s)
    expect(tried).toMatch(/^evt_\w+$/m)
    for (const answer of [signed, bySsl]) {
      expect(JSON.parse(answer)).toMatchObject({ status: "accepted", decision: "execute" })
    }
  })

  it("docs/api.md: its gateway starts, its commands answer as it says, and the last of them ends it with status 0", {
    timeout: 60_000
  }, async () => {
    const [events = "", runs = "", jobs = "", sessions = "", audit = "", stopping = ""] = await conversation(
      "docs/api.md",
      {
        TOKEN: "t0ken"
      }
    )
    expect(events).toMatch(/^\{"eventId":"evt_\w+","duplicate":false,"decision":"execute"\}\{"events":\[\{"id":"evt_/)
    expect(runs).toMatch(/^\{"runs":\[.*\{"agentId":"agent","by":"agents"\}$/)
    expect(jobs).toMatch(/"decision":"execute"\}\{"job":\{"id":"job_.*"history":\[\]\}\{"removed":"job_/)
    expect(JSON.parse(sessions)).toEqual({ sessions: 0, turns: 0 })
    expect(audit).toMatch(/^\{"records":\[.*\n\{"verdict":\{"valid":true,/s)
    expect(JSON.parse(stopping)).toEqual({ stopping: true, by: "ada" })
  })

  it("docs/security.md: its gateway starts, its commands answer as it says, and SIGTERM ends it with status 0", {
    timeout: 60_000
  }, async () => {
    const variables = { POSTILION_TOKEN: "0perator", KIOSK_TOKEN: "k1osk" }
    const [, tokens = "", kiosk = ""] = await conversation("docs/security.md", variables)
    expect(tokens).toContain("# TYPE postilion_uptime_seconds gauge\n")
    expect(tokens.match(/"revokedBy":"operator"/g)).toHaveLength(2)
    expect(kiosk).toContain("offline model")
    expect(kiosk).toContain("kiosk's token is for client; that does not include control")
  })

  it("name only commands there are, and README's start the demo", { timeout: 60_000 }, async () => {
    const { scripts } = JSON.parse(textOf("package.json")) as { scripts: Record<string, string> }
    for (const document of documents) {
      for (const [, run, name = ""] of textOf(document).matchAll(/(?:`|^)npm (run )?(?:--silent )?([a-z]+)/gm)) {
        expect(Object.keys(scripts), `${document}: npm ${run ?? ""}${name}`).toContain(name)
      }
    }
    expect(blocksOf("README.md", "sh").map((block) => block.trim())).toEqual(["npm start", "npm test"])
    // `npm test` is what runs this; `npm start`, as it says, with the option that ends it.
    const { stdout } = await exec("npm", ["start", "--silent", "--", "--once", "--port", "0"], { cwd: root })
    expect(stdout).toContain("outcomes as expected")
  })

  /** What a heading is linked by. */
  const anchorsOf = (document: string): ReadonlyArray<string> =>
    [...textOf(document).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-")
    )

  it("link only to files and headings that exist, and the README to every page", () => {
    const linked = new Set<string>()
    for (const document of documents) {
      for (const [, target = "", anchor] of textOf(document).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)) {
        const file = target === "" ? document : join(document, "..", target)
        expect(existsSync(join(root, file)), `${document} links to ${target}`).toBe(true)
        if (anchor !== undefined) expect(anchorsOf(file), `${document} links to ${target}#${anchor}`).toContain(anchor)
        if (document === "README.md") linked.add(file)
      }
    }
    const pages = documents.filter((document) => document.endsWith(".md") && document !== "README.md")
    expect(pages.filter((page) => !linked.has(page))).toEqual([])
  })
})
