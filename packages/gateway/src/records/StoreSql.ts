import { type SqlConnection as Connection, Migrator, SqlClient, type Statement } from "@effect/sql"
import { Effect, Layer } from "effect"
import initial from "./migrations/0001_initial.ts"
import {
  type Condition,
  isScalar,
  type Query,
  Store,
  StoreError,
  type StoreShape,
  type Totals,
  type Write
} from "./Store.ts"
import { primaryKey, type Row, type Rows, type Table } from "./Tables.ts"

/** Every migration, by file name; ids only ever grow. */
export const migrations: Record<string, Effect.Effect<void, unknown, SqlClient.SqlClient>> = {
  "0001_initial": initial
}

const MIGRATED = "postilion_migrations"
const migrate = Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: MIGRATED })
const LATEST = Math.max(...Object.keys(migrations).map((name) => Number.parseInt(name, 10)))

const migrated = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql.onDialectOrElse({
    sqlite: () => sql`SELECT name FROM sqlite_master WHERE type = 'table' AND name = ${MIGRATED}`,
    orElse: () => sql`SELECT table_name FROM information_schema.tables WHERE table_name = ${MIGRATED}`
  })
  if (tables.length === 0) return undefined
  const [newest] = yield* sql<{ readonly migration_id: number; readonly name: string; readonly created_at: unknown }>`
    SELECT migration_id, name, created_at FROM ${sql(MIGRATED)} ORDER BY migration_id DESC LIMIT 1`
  return newest
})

/** The version of the database's schema, 0 where there is none, and the one that this version knows. Only reads. */
export const schemaVersion = Effect.map(migrated, (newest) => ({ found: newest?.migration_id ?? 0, known: LATEST }))

/**
 * What to say of a database that a newer version has migrated: `has schema version 7 ("reports", since …) …`; `undefined`
 * when there is nothing in it that this version does not know. Only reads.
 */
export const newerSchema = Effect.map(migrated, (newest) => {
  if (newest === undefined || newest.migration_id <= LATEST) return undefined
  const { created_at, migration_id, name } = newest
  return `has schema version ${migration_id} ("${name}", since ${created_at}), written by a newer Postilion; this one knows up to version ${LATEST}`
})

/**
 * Rows per INSERT: powers of two, so that the prepared statements are few whatever the batch. The largest stays below
 * SQLite's 32,766 bound parameters for every table.
 */
const LARGEST_INSERT = 256

/** A statement's text, and the values that are bound to it. */
type Prepared = readonly [text: string, values: ReadonlyArray<unknown>]

const chunksOf = <A>(rows: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => {
  const chunks: Array<ReadonlyArray<A>> = []
  let from = 0
  for (let size = LARGEST_INSERT; size >= 1; size /= 2) {
    for (; rows.length - from >= size; from += size) chunks.push(rows.slice(from, from + size))
  }
  return chunks
}

/** What the database itself said, below what was wrapped around it. */
const rootOf = (cause: unknown): unknown =>
  cause instanceof Error && cause.cause instanceof Error ? rootOf(cause.cause) : cause

const storeError = (message: string) => (cause: unknown) => {
  const root = rootOf(cause)
  return new StoreError({ message: root instanceof Error ? `${message}: ${root.message}` : message, cause })
}

/**
 * Columns of a few known words, which are written out in a query: for what is bound only later, the planner cannot use the
 * partial indexes of the rows that are open.
 */
const WORDS: ReadonlySet<string> = new Set(["state", "source"])
const isWord = (value: unknown): value is string => typeof value === "string" && /^[a-z-]+$/.test(value)

/** Puts the names to a row of values. */
const rowOf =
  <T extends Table, C extends keyof Row<T>>(columns: ReadonlyArray<C>) =>
  (values: ReadonlyArray<unknown>): Pick<Row<T>, C> => {
    const row = {} as Record<C, unknown>
    for (let i = 0; i < columns.length; i++) row[columns[i] as C] = values[i]
    return row as Pick<Row<T>, C>
  }

type View = (values: ReadonlyArray<unknown>) => never
const views = new WeakMap<ReadonlyArray<string>, View>()

/** Has the names look up a row's values, rather than copy them: of a great many rows, most columns are hardly looked at. */
const viewOf = (columns: ReadonlyArray<string>): View => {
  const known = views.get(columns)
  if (known !== undefined) return known
  class Row {
    readonly values: ReadonlyArray<unknown>
    constructor(values: ReadonlyArray<unknown>) {
      this.values = values
    }
  }
  for (const [i, name] of columns.entries()) {
    Object.defineProperty(Row.prototype, name, {
      get(this: Row) {
        return this.values[i]
      }
    })
  }
  const view: View = (values) => new Row(values) as never
  views.set(columns, view)
  return view
}

const bringUpToDate = Effect.gen(function* () {
  const newer = yield* Effect.mapError(newerSchema, storeError("the database's schema could not be read"))
  if (newer !== undefined) {
    return yield* new StoreError({ message: `the database ${newer}; nothing in it was changed: start that version` })
  }
  yield* migrate.pipe(
    // A migration that fails dies.
    Effect.catchAllDefect(Effect.fail),
    Effect.mapError(storeError("the database's tables could not be brought up to date"))
  )
})

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const condition = (column: string, value: Condition<string | number | null>): Statement.Fragment => {
    const name = sql(column)
    if (WORDS.has(column)) {
      if (isWord(value)) return sql`${name} = ${sql.literal(`'${value}'`)}`
      const words: ReadonlyArray<unknown> = isScalar(value) || !("in" in value) ? [] : value.in
      if (words.length > 0 && words.every(isWord)) {
        return sql`${name} IN (${sql.literal(words.map((word) => `'${word}'`).join(", "))})`
      }
    }
    if (isScalar(value)) return value === null ? sql`${name} IS NULL` : sql`${name} = ${value}`
    if ("in" in value) return sql.in(column, value.in)
    const bounds = value
    return sql.and([
      ...(bounds.gt === undefined ? [] : [sql`${name} > ${bounds.gt}`]),
      ...(bounds.gte === undefined ? [] : [sql`${name} >= ${bounds.gte}`]),
      ...(bounds.lt === undefined ? [] : [sql`${name} < ${bounds.lt}`]),
      ...(bounds.lte === undefined ? [] : [sql`${name} <= ${bounds.lte}`])
    ])
  }
  const conditions = (where: object): Statement.Fragment =>
    sql.and(
      Object.entries(where)
        .filter(([, value]) => value !== undefined)
        .map(([column, value]) => condition(column, value as Condition<string | number | null>))
    )
  const nonKeyColumns = (table: Table, row: object) =>
    Object.keys(row).filter((column) => !(primaryKey[table] as ReadonlyArray<string>).includes(column))

  const write = (write: Exclude<Write, { op: "insert" }>) => {
    const table = sql(write.table)
    switch (write.op) {
      case "put": {
        const key = sql.csv(primaryKey[write.table].map((column) => sql`${sql(column)}`))
        const set = sql.csv(
          nonKeyColumns(write.table, write.row).map((column) => sql`${sql(column)} = excluded.${sql(column)}`)
        )
        return sql`INSERT INTO ${table} ${sql.insert({ ...write.row })} ON CONFLICT (${key}) DO UPDATE SET ${set}`
      }
      case "update":
        return sql`UPDATE ${table} SET ${sql.update({ ...write.set })} WHERE ${conditions(write.key)}`
      case "delete":
        return sql`DELETE FROM ${table} WHERE ${conditions(write.where)}`
    }
  }
  /** The text of an INSERT of so many rows, composed once: composing it anew costs more than running it. */
  const inserts = new Map<string, { readonly text: string; readonly columns: ReadonlyArray<keyof Row<Table>> }>()
  const insert = (table: Table, rows: ReadonlyArray<Row<Table>>): Prepared => {
    const name = `${table}:${rows.length}`
    let statement = inserts.get(name)
    if (statement === undefined) {
      const [text] = sql`INSERT INTO ${sql(table)} ${sql.insert(rows as ReadonlyArray<never>)}`.compile()
      statement = { text, columns: Object.keys(rows[0] ?? {}) as Array<keyof Row<Table>> }
      inserts.set(name, statement)
    }
    const values: Array<unknown> = []
    for (const row of rows) for (const column of statement.columns) values.push(row[column])
    return [statement.text, values]
  }
  /** What makes the writes so, in order but for inserts, which come first. */
  const statementsOf = (writes: ReadonlyArray<Write>): ReadonlyArray<Prepared> => {
    const inserted = new Map<Table, Array<Row<Table>>>()
    const others: Array<Prepared> = []
    for (const entry of writes) {
      if (entry.op !== "insert") {
        others.push(write(entry).compile())
        continue
      }
      const rows = inserted.get(entry.table)
      if (rows === undefined) inserted.set(entry.table, [entry.row])
      else rows.push(entry.row)
    }
    const statements: Array<Prepared> = []
    for (const [table, rows] of inserted) for (const chunk of chunksOf(rows)) statements.push(insert(table, chunk))
    return statements.concat(others)
  }
  /** On the connection itself: the client's spans and look-ups for each statement would cost more than the statements. */
  const transaction = (connection: Connection.Connection, statements: ReadonlyArray<Prepared>) => {
    const execute = (text: string) => connection.executeRaw(text, [])
    const all = Effect.forEach(statements, ([text, values]) => connection.executeRaw(text, values), { discard: true })
    return Effect.zipRight(
      execute("BEGIN"),
      Effect.tapErrorCause(Effect.zipRight(all, execute("COMMIT")), () => Effect.ignoreLogged(execute("ROLLBACK")))
    )
  }
  const commit = (writes: ReadonlyArray<Write>) =>
    Effect.suspend(() => {
      const statements = statementsOf(writes)
      return Effect.flatMap(sql.reserve, (connection) => transaction(connection, statements))
    }).pipe(
      Effect.scoped,
      Effect.uninterruptible,
      Effect.mapError(storeError("the write failed; nothing of it was kept"))
    )
  const select = <T extends Table, C extends keyof Row<T>>(table: T, query: Query<T, C>) => {
    const order = query.orderBy
    const columns =
      query.columns === undefined ? sql.literal("*") : sql.csv(query.columns.map((name) => sql`${sql(name)}`))
    return sql<Pick<Rows[T], C>>`SELECT ${columns} FROM ${sql(table)}
      WHERE ${conditions(query.where ?? {})}
      ${order === undefined ? sql.literal("") : sql`ORDER BY ${sql(order[0])} ${sql.literal(order[1] === "asc" ? "ASC" : "DESC")}`}
      ${query.limit === undefined ? sql.literal("") : sql`LIMIT ${query.limit}`}`
  }
  const find = <T extends Table, C extends keyof Row<T> = keyof Row<T>>(table: T, query: Query<T, C>) => {
    const statement = select(table, query)
    // A row of values is read in half the time of one with names.
    const named = query.columns
    const rows =
      named === undefined ? statement : Effect.map(statement.values, (found) => found.map(rowOf<T, C>(named)))
    return Effect.mapError(rows, storeError(`reading ${table} failed`))
  }
  const view: StoreShape["view"] = (table, query) =>
    select(table, query).values.pipe(
      Effect.map((found) => found.map(viewOf(query.columns))),
      Effect.mapError(storeError(`reading ${table} failed`))
    )
  const totals: StoreShape["totals"] = (table, { by, limit, sum, where }) => {
    const columns = [
      ...by.map((column) => sql`${sql(column)}`),
      sql`COUNT(*) AS counted`,
      ...sum.flatMap((column, i) => [
        sql`SUM(${sql(column)}) AS ${sql(`total_${i}`)}`,
        sql`COUNT(${sql(column)}) AS ${sql(`of_${i}`)}`
      ])
    ]
    const groups = by.length === 0 ? sql`` : sql`GROUP BY ${sql.csv(by.map((column) => sql`${sql(column)}`))}`
    return sql<Record<string, string | number | null>>`SELECT ${sql.csv(columns)} FROM ${sql(table)}
      WHERE ${conditions(where)} ${groups} ORDER BY counted DESC LIMIT ${limit}`.pipe(
      Effect.map((rows) =>
        rows
          // Without groups there is one row, also of no rows.
          .filter(({ counted }) => Number(counted) > 0)
          .map((row) => ({
            key: Object.fromEntries(by.map((column) => [column, row[column]])) as Pick<
              Row<typeof table>,
              (typeof by)[number]
            >,
            rows: Number(row.counted),
            sums: Object.fromEntries(
              sum.map((column, i) => [column, { total: Number(row[`total_${i}`] ?? 0), of: Number(row[`of_${i}`]) }])
            ) as Totals<typeof table, never, (typeof sum)[number]>["sums"]
          }))
      ),
      Effect.mapError(storeError(`adding up ${table} failed`))
    )
  }
  return Store.of({ commit, find, view, totals })
})

/**
 * Records in the database behind `SqlClient`. Brings the tables up to date first. The client's connection decides how
 * durable a commit is: for SQLite, WAL with `synchronous = FULL`.
 */
export const layer: Layer.Layer<Store, StoreError, SqlClient.SqlClient> = Layer.effect(
  Store,
  Effect.zipRight(bringUpToDate, make)
)

/** Records in the database behind `SqlClient`, as they are, to be read: its tables have to be those of this version. */
export const layerAsIs: Layer.Layer<Store, never, SqlClient.SqlClient> = Layer.effect(Store, make)
