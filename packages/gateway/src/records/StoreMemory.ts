import { Effect, Layer } from "effect"
import {
  type Condition,
  isScalar,
  type Query,
  Store,
  StoreError,
  type StoreShape,
  type Totals,
  type TotalsQuery,
  type Write
} from "./Store.ts"
import { primaryKey, type Row, type Table, uniqueColumns } from "./Tables.ts"

type AnyRow = Record<string, string | number | null>

const keyOf = (table: Table, row: object): string =>
  JSON.stringify(primaryKey[table].map((column) => (row as AnyRow)[column]))

const matches = (row: AnyRow, where: Record<string, Condition<string | number | null> | undefined>): boolean => {
  for (const [column, condition] of Object.entries(where)) {
    if (condition === undefined) continue
    const value = row[column] ?? null
    if (isScalar(condition)) {
      if (value !== condition) return false
    } else if ("in" in condition) {
      if (!condition.in.includes(value)) return false
    } else {
      // As in SQL, NULL is within no bounds.
      if (value === null) return false
      if (condition.gt != null && !(value > condition.gt)) return false
      if (condition.gte != null && !(value >= condition.gte)) return false
      if (condition.lt != null && !(value < condition.lt)) return false
      if (condition.lte != null && !(value <= condition.lte)) return false
    }
  }
  return true
}

/** One table: rows by primary key, and for each unique column the key of the row that holds a value. */
class MemoryTable {
  readonly rows = new Map<string, AnyRow>()
  readonly unique: ReadonlyMap<string, Map<string | number, string>>
  readonly name: Table

  constructor(name: Table) {
    this.name = name
    this.unique = new Map((uniqueColumns[name] ?? []).map((column) => [column, new Map()]))
  }
  set(key: string, row: AnyRow): void {
    // All of it is checked before any of it is changed.
    for (const [column, index] of this.unique) {
      const value = row[column]
      const holder = value == null ? undefined : index.get(value)
      if (holder !== undefined && holder !== key) throw new Error(`${this.name}.${column}: "${value}" is taken`)
    }
    this.remove(key)
    for (const [column, index] of this.unique) {
      const value = row[column]
      if (value != null) index.set(value, key)
    }
    this.rows.set(key, row)
  }
  remove(key: string): void {
    const row = this.rows.get(key)
    if (row === undefined) return
    for (const [column, index] of this.unique) {
      const value = row[column]
      if (value != null) index.delete(value)
    }
    this.rows.delete(key)
  }
  /** Rows a query could match: by primary key, one or several, or a unique column where it names one, else all. */
  candidates(where: Record<string, Condition<string | number | null> | undefined>): Iterable<AnyRow> {
    const key = primaryKey[this.name]
    if (key.every((column) => where[column] != null && isScalar(where[column]))) {
      const row = this.rows.get(keyOf(this.name, where))
      return row === undefined ? [] : [row]
    }
    const [only = ""] = key
    const one = where[only]
    if (key.length === 1 && one != null && !isScalar(one) && "in" in one) {
      const keys = new Set(one.in.map((value) => keyOf(this.name, { [only]: value })))
      return [...keys].flatMap((key) => {
        const row = this.rows.get(key)
        return row === undefined ? [] : [row]
      })
    }
    for (const [column, index] of this.unique) {
      const condition = where[column]
      if (condition == null) continue
      const values = isScalar(condition) ? [condition] : "in" in condition ? [...new Set(condition.in)] : undefined
      if (values === undefined) continue
      return values.flatMap((value) => {
        const holder = value === null ? undefined : index.get(value)
        const row = holder === undefined ? undefined : this.rows.get(holder)
        return row === undefined ? [] : [row]
      })
    }
    return this.rows.values()
  }
}

export const make = (): StoreShape => {
  const tables = new Map<Table, MemoryTable>()
  const tableOf = (name: Table): MemoryTable => {
    const table = tables.get(name) ?? new MemoryTable(name)
    tables.set(name, table)
    return table
  }
  const apply = (write: Write): (() => void) => {
    const table = tableOf(write.table)
    const before = new Map<string, AnyRow | undefined>()
    const touch = (key: string) => before.set(key, table.rows.get(key))
    switch (write.op) {
      case "insert":
      case "put": {
        const key = keyOf(write.table, write.row)
        if (write.op === "insert" && table.rows.has(key)) throw new Error(`${write.table}: ${key} exists`)
        touch(key)
        table.set(key, { ...write.row })
        break
      }
      case "update": {
        const key = keyOf(write.table, write.key)
        const row = table.rows.get(key)
        // As in SQL, whatever else is named is a condition.
        if (row === undefined || !matches(row, write.key as AnyRow)) break
        touch(key)
        table.set(key, { ...row, ...(write.set as AnyRow) })
        break
      }
      case "delete":
        for (const row of [...table.candidates(write.where as AnyRow)]) {
          if (!matches(row, write.where as AnyRow)) continue
          const key = keyOf(write.table, row)
          touch(key)
          table.remove(key)
        }
    }
    return () => {
      for (const [key, row] of before) row === undefined ? table.remove(key) : table.set(key, row)
    }
  }
  const find: StoreShape["find"] = <T extends Table, C extends keyof Row<T> = keyof Row<T>>(
    name: T,
    query: Query<T, C>
  ) =>
    Effect.sync(() => {
      const where = (query.where ?? {}) as Record<string, Condition<string | number | null> | undefined>
      const found: Array<AnyRow> = []
      for (const row of tableOf(name).candidates(where)) if (matches(row, where)) found.push(row)
      if (query.orderBy !== undefined) {
        const [column, direction] = query.orderBy
        const sign = direction === "asc" ? 1 : -1
        found.sort((a, b) => {
          const x = a[column] ?? null
          const y = b[column] ?? null
          return x === y ? 0 : x === null || (y !== null && x < y) ? -sign : sign
        })
      }
      const rows = query.limit === undefined ? found : found.slice(0, query.limit)
      const { columns } = query
      const copy = (row: AnyRow): AnyRow =>
        columns === undefined ? { ...row } : Object.fromEntries(columns.map((column) => [column, row[column] ?? null]))
      return rows.map(copy) as ReadonlyArray<unknown> as ReadonlyArray<Pick<Row<T>, C>>
    })
  return {
    commit: (writes) =>
      Effect.suspend(() => {
        const undo: Array<() => void> = []
        try {
          for (const write of writes) if (write.op === "insert") undo.push(apply(write))
          for (const write of writes) if (write.op !== "insert") undo.push(apply(write))
          return Effect.void
        } catch (cause) {
          for (const revert of undo.reverse()) revert()
          return Effect.fail(new StoreError({ message: cause instanceof Error ? cause.message : String(cause), cause }))
        }
      }),
    find,
    view: find,
    totals: <T extends Table, By extends keyof Row<T> & string, Sum extends keyof Row<T> & string>(
      name: T,
      { by, limit, sum, where }: TotalsQuery<T, By, Sum>
    ) =>
      Effect.sync(() => {
        const groups = new Map<string, Array<AnyRow>>()
        for (const row of tableOf(name).candidates(where as AnyRow)) {
          if (!matches(row, where as AnyRow)) continue
          const key = JSON.stringify(by.map((column) => row[column]))
          const group = groups.get(key)
          if (group === undefined) groups.set(key, [row])
          else group.push(row)
        }
        const sumOf = (group: ReadonlyArray<AnyRow>, column: string) => {
          const values = group.map((row) => row[column]).filter((value) => value != null)
          return { total: values.reduce<number>((total, value) => total + Number(value), 0), of: values.length }
        }
        return [...groups.values()]
          .sort((a, b) => b.length - a.length)
          .slice(0, limit)
          .map((group) => ({
            key: Object.fromEntries(by.map((column) => [column, group[0]?.[column]])),
            rows: group.length,
            sums: Object.fromEntries(sum.map((column) => [column, sumOf(group, column)]))
          })) as ReadonlyArray<unknown> as ReadonlyArray<Totals<T, By, Sum>>
      })
  }
}

/** Records in memory: gone when the process ends. */
export const layer: Layer.Layer<Store> = Layer.sync(Store, make)
