import { Option, Schema, SchemaAST } from "effect"

const IS_PATH = Symbol.for("@postilion/server/FilePath")

/** The path of a file. A relative one is read from the folder of the `gateway.yaml` it stands in; of a program, from where it runs. */
export const FilePath = Schema.NonEmptyString.annotations({ [IS_PATH]: true })

export const isFilePath = (ast: SchemaAST.AST): boolean => Option.isSome(SchemaAST.getAnnotation(IS_PATH)(ast))
