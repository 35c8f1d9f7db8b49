// Types of `convexTest`: what convex-test's accessor has, and what concave adds to it.
//
// In: the types of a schema and of functions. Out: those of `t`. Invariant: what is typed for
// convex-test is typed the same here, so that one set of test files fits both.
import type {
  DataModelFromSchemaDefinition, FunctionReference, FunctionReturnType, GenericActionCtx,
  GenericDataModel, GenericMutationCtx, GenericQueryCtx, GenericSchema, OptionalRestArgs,
  RequestMetadata, SchemaDefinition, UserIdentity,
} from "convex/server";

type Modules = Record<string, () => Promise<any>>;

/** Arguments of a named function; an inline one takes none. */
type ArgsOf<Target> =
  Target extends FunctionReference<any, any> ? OptionalRestArgs<Target> : [];

type ResultOf<Target> =
  Target extends FunctionReference<any, any> ? FunctionReturnType<Target>
  : Target extends (ctx: any) => Promise<infer Output> ? Output
  : never;

/** Calls a function of a module, public or internal, or runs an inline one. */
type Runner<Kind extends "query" | "mutation" | "action", Ctx> = <
  Target extends FunctionReference<Kind, any> | ((ctx: Ctx) => Promise<any>),
>(target: Target, ...args: ArgsOf<Target>) => Promise<ResultOf<Target>>;

type Unit =
  | "ms" | "s" | "second" | "seconds" | "m" | "min" | "mins" | "minute" | "minutes"
  | "h" | "hour" | "hours" | "d" | "day" | "days" | "w" | "week" | "weeks";

/** Milliseconds, or a number with its unit: `"30 days"`, `"1.5h"`. */
export type Duration = number | `${number} ${Unit}` | `${number}${Unit}`;

/** A query that is kept fresh. */
export interface Watch<Value> {
  /** Every result, oldest first. */
  readonly results: Value[];
  /** The newest result; throws what the query threw last. */
  readonly current: Value;
  /** What the query threw last; `undefined` once it gives a result again. */
  readonly error: unknown;
}

export interface ExploreOptions {
  /** Holds at the end of each order: `false`, or an error, tells that it does not. */
  invariant?: () => unknown;
  /** Holds after each transaction that writes. */
  always?: () => unknown;
  /** How many orders will do, where there are more. By default 5000, and more is an error. */
  most?: number;
  /** Runs only the order that a failure has told: `"0 1 0"`. */
  replay?: string;
}

export interface Explored {
  /** How many orders were run. */
  orders: number;
  /** Whether there are no others. */
  complete: boolean;
  /** The functions that threw in some orders: in how many, and what first. */
  failed: { name: string; orders: number; message: string }[];
}

/** What concave adds. */
export interface Added {
  /** Lets time pass: scheduled functions and cron jobs that become due run, each at its time. */
  advance(duration: Duration): Promise<void>;
  /** Keeps every result of a query, as it changes. */
  watch<Query extends FunctionReference<"query", any>>(
    query: Query, ...args: OptionalRestArgs<Query>
  ): Promise<Watch<FunctionReturnType<Query>>>;
  /**
   * Answers `fetch` of actions: of URLs that begin with a text, or that a RegExp finds. The newest
   * that fits answers; once there is one, a request that fits none fails.
   */
  onFetch(
    url: string | URL | RegExp, handler: (request: Request) => Response | Promise<Response>,
  ): void;
  /**
   * Runs functions side by side in every order of their transactions that can make a difference;
   * rejects with the shortest order that breaks what must hold.
   */
  explore(functions: readonly (() => unknown)[], options?: ExploreOptions): Promise<Explored>;
}

export type TestConvexForDataModel<DataModel extends GenericDataModel> = Added & {
  query: Runner<"query", GenericQueryCtx<DataModel>>;
  mutation: Runner<"mutation", GenericMutationCtx<DataModel>>;
  action: Runner<"action", GenericActionCtx<DataModel>>;
  /** Runs a function as a mutation that has an action's storage. */
  run: <Output>(
    handler: (
      ctx: GenericMutationCtx<DataModel> & Pick<GenericActionCtx<DataModel>, "storage">,
    ) => Promise<Output>,
  ) => Promise<Output>;
  /** Calls an HTTP action; the path begins with `/`. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Waits for the scheduled functions that run now. */
  finishInProgressScheduledFunctions: () => Promise<void>;
  /** Waits for scheduled functions and those that they schedule, while fake timers advance. */
  finishAllScheduledFunctions: (
    advanceTimers: () => void, maxIterations?: number,
  ) => Promise<void>;
  /** The same database, called by somebody. */
  withIdentity(identity: Partial<UserIdentity>): TestConvexForDataModel<DataModel>;
  withRequestMetadata(
    metadata: Partial<Pick<RequestMetadata, "ip" | "userAgent">>,
  ): TestConvexForDataModel<DataModel>;
};

export type TestConvexRoot<DataModel extends GenericDataModel> = {
  /** Mounts a component, before the first call of a function. */
  registerComponent: (
    path: string, schema: SchemaDefinition<GenericSchema, boolean>, modules: Modules,
  ) => void;
} & TestConvexForDataModel<DataModel>;

export type TestConvex<Schema extends SchemaDefinition<any, boolean>> =
  TestConvexRoot<DataModelFromSchemaDefinition<Schema>>;

/** @deprecated It is {@link TestConvexRoot}. */
export type TestConvexForDataModelAndIdentity<DataModel extends GenericDataModel> =
  TestConvexRoot<DataModel>;

/** What one transaction may use; what is left out is as it is for Convex. */
export interface TransactionLimits {
  bytesRead: number;
  bytesWritten: number;
  databaseQueries: number;
  documentsRead: number;
  documentsWritten: number;
  functionsScheduled: number;
  scheduledFunctionArgsBytes: number;
}

/** Opens a database with a schema and the functions of `import.meta.glob("./**\/*.*s")`. */
export declare function convexTest<Schema extends GenericSchema>(
  schema?: SchemaDefinition<Schema, boolean>, modules?: Modules,
): TestConvex<SchemaDefinition<Schema, boolean>>;
export declare function convexTest<Schema extends GenericSchema>(options: {
  schema?: SchemaDefinition<Schema, boolean>;
  modules?: Modules;
  /** `true`: Convex's limits; the default is none. */
  transactionLimits?: Partial<TransactionLimits> | boolean;
}): TestConvex<SchemaDefinition<Schema, boolean>>;
export default convexTest;
