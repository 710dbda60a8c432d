import type { Effect } from "effect"
import { Context, Data } from "effect"
import type { Row, Table } from "./Tables.ts"

/** A change to one row. */
export type Write = { readonly [T in Table]: WriteOf<T> }[Table]
type WriteOf<T extends Table> =
  | { readonly op: "insert"; readonly table: T; readonly row: Row<T> }
  /** Inserts the row, or replaces the one with the same primary key. */
  | { readonly op: "put"; readonly table: T; readonly row: Row<T> }
  /** Changes the row with this primary key, if what else `key` names is so. */
  | { readonly op: "update"; readonly table: T; readonly key: Partial<Row<T>>; readonly set: Partial<Row<T>> }
  | { readonly op: "delete"; readonly table: T; readonly where: Where<T> }

type Scalar = string | number | null

/** What a column must be: a value, one of several, or within bounds. */
export type Condition<A> =
  | A
  | { readonly in: ReadonlyArray<A> }
  | { readonly gt?: A; readonly gte?: A; readonly lt?: A; readonly lte?: A }

/** Conditions by column, all of which a row has to meet. */
export type Where<T extends Table> = { readonly [C in keyof Row<T>]?: Condition<Row<T>[C]> | undefined }

export interface Query<T extends Table, C extends keyof Row<T> = keyof Row<T>> {
  /** Default: all. */
  readonly columns?: ReadonlyArray<C & string>
  readonly where?: Where<T>
  readonly orderBy?: readonly [keyof Row<T> & string, "asc" | "desc"]
  readonly limit?: number
}

/** Rows that are alike in the columns `by`, counted, and their columns `sum` added up. */
export interface TotalsQuery<T extends Table, By extends keyof Row<T>, Sum extends keyof Row<T>> {
  readonly where: Where<T>
  readonly by: ReadonlyArray<By>
  readonly sum: ReadonlyArray<Sum>
  /** Groups that are returned: those of most rows. */
  readonly limit: number
}
export interface Totals<T extends Table, By extends keyof Row<T>, Sum extends keyof Row<T>> {
  readonly key: Pick<Row<T>, By>
  readonly rows: number
  /** What the rows add up to that have a value, and how many those are. */
  readonly sums: { readonly [C in Sum]: { readonly total: number; readonly of: number } }
}

/** The database could not do what was asked of it. */
export class StoreError extends Data.TaggedError("StoreError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export interface StoreShape {
  /** Applies all writes, in order but for inserts, which come first, or none. */
  readonly commit: (writes: ReadonlyArray<Write>) => Effect.Effect<void, StoreError>
  readonly find: <T extends Table, C extends keyof Row<T> = keyof Row<T>>(
    table: T,
    query: Query<T, C>
  ) => Effect.Effect<ReadonlyArray<Pick<Row<T>, C>>, StoreError>
  /**
   * What `find` finds, for reading a great many rows: their columns are looked up when they are asked for, so that a row is neither
   * to be spread nor compared. `columns` is kept: one list for all queries alike.
   */
  readonly view: <T extends Table, C extends keyof Row<T>>(
    table: T,
    query: Query<T, C> & { readonly columns: ReadonlyArray<C & string> }
  ) => Effect.Effect<ReadonlyArray<Pick<Row<T>, C>>, StoreError>
  /** Groups of most rows first. None for no rows. */
  readonly totals: <T extends Table, By extends keyof Row<T> & string, Sum extends keyof Row<T> & string>(
    table: T,
    query: TotalsQuery<T, By, Sum>
  ) => Effect.Effect<ReadonlyArray<Totals<T, By, Sum>>, StoreError>
}

/**
 * Where records live. The subsystems are written once against this; `StoreMemory.layer` and `StoreSql.layer` give it.
 */
export class Store extends Context.Tag("@postilion/gateway/Store")<Store, StoreShape>() {}

export const isScalar = (value: unknown): value is Scalar => typeof value !== "object" || value === null
