//! Every limit, its unit, its number, its reason: one table (`convex-compat.md` sections 2.3 and
//! 8.6).
//!
//! In: nothing. Out: constants for the code that enforces them and [`TABLE`] for `concave limits`.
//! Invariant: a number that bounds a user's work stands here and nowhere else.

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Things: documents, lines, calls, levels.
    Count,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Name, as `concave limits` prints it.
    pub name: &'static str,
    /// The number.
    pub value: u64,
    /// What it counts.
    pub unit: Unit,
    /// Why there is one, and why this number.
    pub reason: &'static str,
    /// How the error text begins.
    pub error: &'static str,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident = $value:expr, $unit:ident, $reason:literal,
        $error:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: u64 = $value;)*

        /// Every limit.
        pub const TABLE: &[Limit] = &[$(Limit {
            name: stringify!($name),
            value: $name,
            unit: Unit::$unit,
            reason: $reason,
            error: $error,
        },)*];
    };
}

limits! {
    /// User heap of one isolate.
    HEAP_BYTES = 64 << 20, Bytes,
        "as Convex; a call that needs more should work in pages",
        "JavaScript execution ran out of memory";
    /// ArrayBuffers of one isolate.
    ARRAY_BUFFER_BYTES = 64 << 20, Bytes,
        "outside V8's heap limit, so counted on their own",
        "Array buffer allocation failed";
    /// Linear memories of WebAssembly of one isolate.
    WASM_MEMORY_BYTES = 128 << 20, Bytes,
        "neither on V8's heap nor a buffer; room for the largest documents and their history",
        "WebAssembly memory of … is too large";
    /// WebAssembly modules kept compiled for the next calls, by the size of their files.
    WASM_MODULES_BYTES = 64 << 20, Bytes,
        "a share of the host's memory budget; compiling one anew takes tens of milliseconds",
        "(never an error: the oldest are compiled again)";
    /// How long an isolate may have nothing to do, after which its memory goes back; one stays.
    ISOLATE_IDLE_MS = 60_000, Milliseconds,
        "memory goes back when nothing needs it; a new isolate takes a few milliseconds",
        "(never an error: another isolate is made)";
    /// CPU time of one query or mutation.
    CPU_TIME_MS = 1_000, Milliseconds,
        "as Convex; measured by the thread's CPU clock, so a busy machine fails no call",
        "Function execution timed out";
    /// PBKDF2 iterations of one derivation in a query or mutation, times blocks of its output.
    PBKDF2_ITERATIONS = 1_000_000, Count,
        "about the CPU time of a call: the native cannot be stopped while it runs",
        "PBKDF2 of … iterations; at most … fit here";
    /// PBKDF2 iterations of one derivation in an action, times blocks of its output.
    ACTION_PBKDF2_ITERATIONS = 50_000_000, Count,
        "half a minute of one core: nothing stops a derivation before its end",
        "PBKDF2 of … iterations; at most … fit here";
    /// Wall time of one query or mutation.
    WALL_TIME_MS = 15_000, Milliseconds,
        "the second bound, for a machine that gives a call no CPU",
        "Your request timed out performing too many system operations.";
    /// JavaScript heap of one test file.
    TEST_HEAP_BYTES = 512 << 20, Bytes,
        "a test may hold what functions may not: fixtures, mocks and their history",
        "JavaScript execution ran out of memory";
    /// Memory of a process that runs test files.
    TEST_PROCESS_BYTES = 2 << 30, Bytes,
        "a few files side by side, each below its own limit",
        "(the process ends, and the tests that ran in it fail)";
    /// Console lines of one test file.
    TEST_LOG_LINES = 10_000, Count,
        "they are told together when the file has ended",
        "Log overflow";
    /// Documents one call reads.
    DOCUMENTS_READ = 32_000, Count,
        "as Convex; keeps re-runs of a subscribed query cheap",
        "Too many documents read in a single function execution";
    /// Bytes of documents one call reads.
    BYTES_READ = 16 << 20, Bytes,
        "as Convex",
        "Too many bytes read in a single function execution";
    /// Index ranges one call opens (`db.get` and `db.query`).
    INDEX_RANGES = 4_096, Count,
        "as Convex; each is kept in the read set",
        "Too many reads in a single function execution";
    /// Documents one mutation writes.
    DOCUMENTS_WRITTEN = 16_000, Count,
        "as Convex",
        "Too many writes in a single function execution";
    /// Bytes of documents one mutation writes.
    BYTES_WRITTEN = 16 << 20, Bytes,
        "as Convex; one transaction is one log record",
        "Too many bytes written in a single function execution";
    /// Size of a call's arguments.
    ARGUMENT_BYTES = 16 << 20, Bytes,
        "as Convex",
        "Arguments for … are too large";
    /// Size of a call's result.
    RESULT_BYTES = 16 << 20, Bytes,
        "as Convex; results are cached and sent to subscribers",
        "Function … return value is too large";
    /// Results of one batch of queries over HTTP, together.
    QUERY_BATCH_BYTES = 32 << 20, Bytes,
        "as two of the largest results: a short request must not ask for all memory",
        "The results of the batch are larger than";
    /// Size of any value.
    VALUE_BYTES = 32 << 20, Bytes,
        "as Convex: an absolute bound behind the others",
        "Value is too large";
    /// Nesting of any value.
    VALUE_DEPTH = 64, Count,
        "as Convex; keeps recursion off the stack's end",
        "Value is too nested";
    /// Elements of an array.
    ARRAY_LENGTH = 8_192, Count,
        "as Convex; longer lists belong in a table",
        "Array length is too long";
    /// Fields of an object.
    OBJECT_FIELDS = 1_024, Count,
        "as Convex; larger maps belong in a table",
        "Object has too many fields";
    /// Bytes of a field's name.
    FIELD_NAME_BYTES = 1_024, Bytes,
        "as Convex; names are stored with every document",
        "Field name … is too long";
    /// Characters of the name of a table, an index, or a field of a validator.
    IDENTIFIER_LENGTH = 64, Count,
        "as Convex; such names stand in messages, logs and generated code",
        "… must be 1 to 64 characters";
    /// Dimensions of a vector index.
    VECTOR_DIMENSIONS = 4_096, Count,
        "as Convex; each document of the index holds as many floats",
        "the vector index … has N dimensions";
    /// Size of a document.
    DOCUMENT_BYTES = 1 << 20, Bytes,
        "as Convex; larger data belongs in file storage",
        "Value is too large";
    /// Nesting of a document.
    DOCUMENT_DEPTH = 16, Count,
        "as Convex",
        "Document is too nested";
    /// Tables of a deployment.
    TABLES = 10_000, Count,
        "as Convex",
        "Too many tables";
    /// Indexes of a table.
    INDEXES_PER_TABLE = 64, Count,
        "as Convex; each makes every write dearer",
        "Table … has too many indexes";
    /// Fields of an index.
    INDEX_FIELDS = 16, Count,
        "as Convex",
        "Index … has too many fields";
    /// Filter fields of a search or vector index.
    INDEX_FILTER_FIELDS = 16, Count,
        "as Convex",
        "Index … has too many filter fields";
    /// Operators of one query.
    QUERY_OPERATORS = 256, Count,
        "as Convex",
        "Query has too many operators";
    /// Functions that one mutation schedules.
    FUNCTIONS_SCHEDULED = 1_000, Count,
        "as Convex; each is a row, and a call later",
        "Too many functions scheduled by this mutation";
    /// Arguments of the functions that one mutation schedules.
    SCHEDULED_BYTES = 16 << 20, Bytes,
        "as Convex; they are stored until a week after the call",
        "Too large total size of the arguments of scheduled functions";
    /// How far from now a function may be scheduled.
    SCHEDULE_DAYS = 5 * 365, Count,
        "days; as Convex: a time further off is a mistake of units",
        "… is more than five years from now";
    /// Mutations of the scheduler that run side by side.
    SCHEDULED_MUTATIONS = 8, Count,
        "as Convex; they share the isolates with calls that somebody waits for",
        "(never an error: due jobs wait)";
    /// Actions of the scheduler that run side by side.
    SCHEDULED_ACTIONS = 256, Count,
        "they mostly wait for others, so many more than mutations",
        "(never an error: due jobs wait)";
    /// How long the row of a scheduled function is kept after its end.
    SCHEDULED_KEPT_MS = 7 * 24 * 3_600_000, Milliseconds,
        "as Convex, a week: long enough to look what came of it",
        "(never an error: the row is removed)";
    /// Longest pause before a job is tried again that the host could not run.
    SCHEDULER_BACKOFF_MS = 2 * 3_600_000, Milliseconds,
        "as Convex; the pauses begin at half a second and double",
        "(never an error: the job waits)";
    /// Documents of one import, as text.
    IMPORT_BYTES = 256 << 20, Bytes,
        "one import is one commit, held in memory a few times: import larger data in parts",
        "The import is too large";
    /// One line of a file of documents.
    IMPORT_LINE_BYTES = 16 << 20, Bytes,
        "a document of 1 MiB, however its text is escaped",
        "… is longer than";
    /// A file that is one JSON array of documents.
    IMPORT_ARRAY_BYTES = 16 << 20, Bytes,
        "as Convex; such a file is read whole, other formats line by line",
        "JSON arrays may have at most";
    /// Parts of one upload for an import.
    IMPORT_PARTS = 10_000, Count,
        "as Convex; its command line makes parts larger rather than more",
        "The upload has too many parts";
    /// Imports that are uploaded, or wait to be confirmed, at the same time.
    IMPORTS_AT_ONCE = 4, Count,
        "each may hold its documents in memory",
        "Too many imports at the same time";
    /// How long an upload or an import waits for its next step.
    IMPORT_WAIT_MS = 3_600_000, Milliseconds,
        "long enough to read the question and answer it",
        "The import was not confirmed in time";
    /// How long an export can be downloaded.
    EXPORT_KEPT_MS = 3_600_000, Milliseconds,
        "until then the documents of its moment stay in memory, and files on disk",
        "There is no export at";
    /// Forks of a host in its own process, at the same time.
    FORKS = 4, Count,
        "each has isolates, caches and a history of its own",
        "Too many forks";
    /// Rows kept about exports, and about imports.
    BACKUP_ROWS = 20, Count,
        "as Convex's list of imports; the rest is history",
        "(never an error: the oldest row goes)";
    /// Components of a deployment, those inside of others included.
    COMPONENTS = 256, Count,
        "each evaluated definition is a context in the startup snapshot",
        "Too many components";
    /// Nested calls.
    CALL_DEPTH = 8, Count,
        "as Convex; each level holds a context",
        "Cross component call depth limit exceeded";
    /// Console lines of a call.
    LOG_LINES = 256, Count,
        "as Convex; they travel with the answer",
        "Log overflow";
    /// Bytes of a console line.
    LOG_LINE_BYTES = 32_768, Bytes,
        "as Convex",
        "(truncated due to length)";
    /// Executions that `convex logs` can look back at.
    LOG_ENTRIES = 1_000, Count,
        "enough history to start a tail with; who needs more keeps a tail running",
        "(never an error: the oldest go)";
    /// Memory of those executions, with their console lines.
    LOG_ENTRY_BYTES = 8 << 20, Bytes,
        "a share of the host's memory budget, whatever functions log",
        "(never an error: the oldest go)";
    /// How long a request for new log entries waits for some.
    LOGS_WAIT_MS = 60_000, Milliseconds,
        "as Convex; shorter than what proxies allow a request",
        "(never an error: the answer has no entries)";
    /// CPU time of a push's analysis.
    ANALYSIS_TIME_MS = 4_000, Milliseconds,
        "as Convex; a module that loops at import must not hang a push",
        "Evaluating your modules was stopped";
    /// Body of a call over HTTP.
    HTTP_BODY_BYTES = (16 << 20) + 2_000, Bytes,
        "as Convex: the largest arguments and room for their envelope",
        "Request body is too large";
    /// Bodies of calls over HTTP and large messages of WebSocket clients that are read or answered
    /// at the same time; with a memory budget, an eighth of it where that is less.
    HTTP_BODIES_BYTES = 1 << 30, Bytes,
        "a share of the host's memory budget: connections times the largest body would be more",
        "The host holds … bytes of request bodies";
    /// Answers over HTTP that clients have not taken, together; with a memory budget, a quarter of
    /// it where that is less. One alone is always sent.
    HTTP_ANSWERS_BYTES = 1 << 30, Bytes,
        "a share of the host's memory budget: a client that asks need not read",
        "The host owes its clients … bytes of answers";
    /// Smallest memory budget.
    MEMORY_MIN_BYTES = 128 << 20, Bytes,
        "an empty host with one isolate and one process for actions takes half of it",
        "A memory budget of … is too small";
    /// Per cent of the memory budget above which calls of the operator are refused that make the
    /// data larger; everybody else's calls are from 95 on.
    MEMORY_OPERATOR_PERCENT = 110, Count,
        "room to make room in: to delete takes memory for a moment",
        "The host is out of memory";
    /// Time in which the body of a call over HTTP arrives, and again in which it is answered.
    HTTP_CALL_MS = 300_000, Milliseconds,
        "as Convex; work that takes longer is scheduled, not waited for",
        "There was no answer within";
    /// Connections over HTTP and WebSocket, of both origins.
    HTTP_CONNECTIONS = 16_384, Count,
        "each costs a few kilobytes and a file descriptor of the process",
        "Too many connections";
    /// Time in which a connection sends the head of its next request.
    HTTP_HEAD_MS = 75_000, Milliseconds,
        "longer than the minute after which proxies drop idle connections, so that they do it",
        "(the connection is closed)";
    /// Body of the response of one HTTP action.
    HTTP_RESPONSE_BYTES = 20 << 20, Bytes,
        "as Convex; larger data belongs in file storage",
        "HTTP actions support responses up to";
    /// Rest of a request's body that is read and dropped after the HTTP action has answered.
    HTTP_DISCARD_BYTES = 16 << 20, Bytes,
        "a client that is still sending sees an answer only when it is let finish",
        "(never an error: the connection is closed)";
    /// Body of a push, decompressed.
    PUSH_BODY_BYTES = 200 << 20, Bytes,
        "as Convex",
        "Request body is too large";
    /// JavaScript of a push.
    BUNDLE_BYTES = 32 << 20, Bytes,
        "as Convex",
        "The bundle is too large";
    /// A user's token.
    TOKEN_BYTES = 32 << 10, Bytes,
        "four times what providers issue; longer ones are not worth decoding",
        "The token is too long";
    /// Answer of an identity provider: its discovery document or its key set.
    AUTH_FETCH_BYTES = 1 << 20, Bytes,
        "a hundred times the largest key set seen",
        "the answer is longer than";
    /// One request to an identity provider.
    AUTH_FETCH_MS = 10_000, Milliseconds,
        "who signs in waits for it, the first time",
        "there was no answer within";
    /// Age at which a provider's keys are fetched again.
    AUTH_KEYS_MS = 300_000, Milliseconds,
        "how long a key that was withdrawn may still be believed",
        "(never an error: the keys are fetched)";
    /// Age at which keys are no longer used while their provider cannot be reached.
    AUTH_STALE_KEYS_MS = 86_400_000, Milliseconds,
        "users stay signed in while their provider is down for a day",
        "Auth provider discovery of";
    /// Time between two fetches for a key that is unknown, or from a provider that failed.
    AUTH_REFETCH_MS = 5_000, Milliseconds,
        "made-up key ids, and a provider that is down, cost one request in that time",
        "There is no key";
    /// Wall time of one action.
    ACTION_TIME_MS = 30 * 60_000, Milliseconds,
        "as Convex; an action waits for others most of its time, so CPU time says little",
        "Function execution timed out";
    /// Actions that run at the same time.
    ACTIONS_AT_ONCE = 1_024, Count,
        "each is a thread with a heap of its own",
        "Too many concurrent requests. Your backend is limited to";
    /// Actions that run at the same time in one process.
    ACTIONS_PER_PROCESS = 50, Count,
        "how many an action that crashes its process can take with it",
        "(never an error: another process is started)";
    /// Actions that call each other in a chain.
    ACTION_DEPTH = 64, Count,
        "each waits for the next and holds a thread; a loop would take all that there are",
        "… was called by an action that was called by an action, and so on";
    /// Actions after which a process is replaced.
    ACTIONS_OF_A_PROCESS = 1_000, Count,
        "what a process may have lost of its memory by then comes back",
        "(never an error: another process is started)";
    /// Calls of queries and mutations of a module before it is looked at whether its contexts may
    /// serve more than one.
    CALLS_BEFORE_PROOF = 32, Count,
        "what is seldom called gains nothing by it",
        "(never an error: each call has a context of its own)";
    /// Calls in a kept context of which one is executed again in a fresh one.
    CALLS_PER_CANARY = 100, Count,
        "a difference that only some calls show is found, at a cost of a tenth",
        "(never an error: the fresh one decides)";
    /// Calls that one kept context serves.
    CALLS_PER_CONTEXT = 10_000, Count,
        "what the module has piled up by then is given back",
        "(never an error: another context is made)";
    /// Calls that one kept context serves whose objects are frozen.
    CALLS_PER_FROZEN_CONTEXT = 100_000, Count,
        "a call leaves nothing in one but V8's notes; freezing another takes a tenth of a second",
        "(never an error: another context is made)";
    /// Calls of a module without a frozen context before another one is frozen for them.
    CALLS_BETWEEN_FREEZES = 1_000, Count,
        "freezing takes a tenth of a second; where more modules are called than contexts are kept,",
        "it would be in every call (never an error: calls have fresh contexts meanwhile)";
    /// Parts of an isolate's time, one of which may go into freezing contexts.
    FREEZING_PARTS = 10, Count,
        "calls wait meanwhile; where many modules become warm at once it would be for seconds",
        "(never an error: calls have fresh contexts meanwhile)";
    /// Kept contexts of one isolate.
    KEPT_CONTEXTS = 16, Count,
        "each keeps a few hundred kilobytes",
        "(never an error: another context is made)";
    /// Runs of actions in one context, where their module exports `experimental_reuseContext`.
    ACTION_CONTEXT_RUNS = 10_000, Count,
        "what the module has piled up by then is given back",
        "(never an error: another context is made)";
    /// Contexts of one process that wait for another run of such a module.
    ACTION_CONTEXTS_KEPT = 16, Count,
        "each keeps a few megabytes",
        "(never an error: another context is made)";
    /// `ArrayBuffer`s of one action.
    ACTION_BUFFER_BYTES = 128 << 20, Bytes,
        "outside V8's heap limit; twice as much as of a query, since those that are dead count \
         until V8 has looked for them",
        "Array buffer allocation failed";
    /// Memories of WebAssembly of one action.
    ACTION_WASM_MEMORY_BYTES = 256 << 20, Bytes,
        "many share a process: none may take so much that the others die of it",
        "WebAssembly memory of … is too large";
    /// Memory of one process that runs actions.
    ACTION_PROCESS_BYTES = 2 << 30, Bytes,
        "the wall behind the limits of heaps and buffers: its process alone dies of it",
        "The process that ran … ended";
    /// Calls back to the host that one action has unfinished.
    ACTION_CALLS_AT_ONCE = 1_000, Count,
        "as Convex; an action that awaits nothing would fill the host's memory with questions",
        "Too many operations at once";
    /// Arguments of those calls together.
    ACTION_CALL_BYTES = 64 << 20, Bytes,
        "as much as the action's own heap",
        "Too much at once";
    /// How long a process of actions may have nothing to do.
    ACTION_PROCESS_IDLE_MS = 300_000, Milliseconds,
        "memory goes back when nothing needs it; one process of the newest code stays",
        "(never an error: another process is started)";
    /// Wall time of one action in a module with `"use node"`.
    NODE_ACTION_TIME_MS = 10 * 60_000, Milliseconds,
        "as Convex",
        "Function execution timed out";
    /// Node actions that run at the same time.
    NODE_ACTIONS_AT_ONCE = 64, Count,
        "as Convex; each is a process of its own",
        "Too many concurrent requests. Your backend is limited to";
    /// JavaScript heap of a Node process.
    NODE_HEAP_BYTES = 512 << 20, Bytes,
        "as Convex; its process alone dies of more",
        "The process that ran … ended";
    /// One file in the temporary folder of a Node process.
    NODE_FILE_BYTES = 512 << 20, Bytes,
        "the disk is the host's; what a function spools is rarely larger than its memory",
        "EFBIG: file too large";
    /// Wall time in which the Node modules of a bundle are imported to look at them.
    NODE_ANALYSIS_MS = 60_000, Milliseconds,
        "modules import files of packages one by one, on whatever disk and machine there is",
        "Function execution timed out";
    /// Wall time of one step in which npm installs packages.
    NODE_INSTALL_MS = 10 * 60_000, Milliseconds,
        "npm retries a registry that does not answer for minutes; a push must end",
        "npm did not install";
    /// Redirects that one `fetch` follows.
    FETCH_REDIRECTS = 20, Count,
        "as Convex and browsers; more of them go round in a circle",
        "Could not fetch …: there were more than … redirects";
    /// The body of one response of `fetch`, decoded.
    FETCH_BODY_BYTES = 1 << 30, Bytes,
        "a server that never ends its answer, or one that grows when it is unpacked",
        "Could not fetch …: the response is larger than";
    /// The body of one response of `fetch` that is read at once, as by `json()`.
    FETCH_WHOLE_BODY_BYTES = 30 << 20, Bytes,
        "its parts and the whole are in the run's buffers at the same time",
        "The response of … is too large to read at once";
    /// How long an address may take to accept a connection of `fetch`.
    FETCH_CONNECT_MS = 10_000, Milliseconds,
        "who has not answered by then is not there, or behind a firewall",
        "error sending request for url (…): … did not answer within";
    /// Calls that wait for an isolate.
    MAX_QUEUED_CALLS = 4_096, Count,
        "a longer queue only turns overload into time-outs",
        "Too many concurrent requests.";
    /// Age at which a cached result that looked at the clock is no longer served.
    CACHED_TIME_NS = 5_000_000_000, Count,
        "nanoseconds; as Convex: what expires is seen to expire soon",
        "(never an error: the query runs again)";
    /// Memory of the query cache.
    CACHE_BYTES = 64 << 20, Bytes,
        "a share of the host's memory budget",
        "(never an error: the oldest results go)";
    /// Memory of the answers kept for mutations that may be delivered again.
    REQUESTS_BYTES = 16 << 20, Bytes,
        "a share of the host's memory budget; the oldest answers go first",
        "(never an error: a repeat older than that runs again)";
    /// How long the answer to a mutation is kept for a repeat.
    REQUESTS_AGE_MS = 14 * 24 * 3_600_000, Milliseconds,
        "as Convex, two weeks: a client that reconnects later has long been closed",
        "(never an error: a repeat older than that runs again)";
    /// Queries that one WebSocket client is subscribed to.
    SESSION_QUERIES = 16_384, Count,
        "each holds a subscription and is run again after a cut; a page has hundreds",
        "Too many queries";
    /// Mutations of one WebSocket client that wait for the one that runs.
    SESSION_MUTATIONS = 1_000, Count,
        "as Convex; they run one at a time. No more is read from the client until one is done",
        "(never an error: the client waits)";
    /// Actions of one WebSocket client that run side by side.
    SESSION_ACTIONS = 1_000, Count,
        "as for mutations",
        "(never an error: the client waits)";
    /// Arguments of the mutations and actions of one WebSocket client that run and wait, after
    /// which nothing more is read from it.
    SESSION_CALL_BYTES = 16 << 20, Bytes,
        "the largest arguments of one call",
        "(never an error: the client waits)";
    /// One message of a WebSocket client; with a memory budget, an eighth of it where that is less.
    SOCKET_MESSAGE_BYTES = 64 << 20, Bytes,
        "the largest arguments are a third more as base64, and text may be six times as long",
        "The message is too large";
    /// Frames that wait for a WebSocket client, after which nothing more is read from it.
    SOCKET_UNSENT_BYTES = 4 << 20, Bytes,
        "a client that does not read is not worth more of the host's memory",
        "(never an error: the client waits)";
    /// Transitions that wait for a WebSocket client, after which its queries are not run.
    SOCKET_UNSENT_TRANSITIONS = 2, Count,
        "as Convex; what changes meanwhile goes into the next one",
        "(never an error: updates are folded)";
    /// How long a client may take nothing of what waits for it, over WebSocket or HTTP.
    SOCKET_STALL_MS = 60_000, Milliseconds,
        "as long as a WebSocket client itself waits for a message",
        "(the connection is dropped: it takes no frame with a reason either)";
    /// The same while memory is short, or half of the room for answers over HTTP is taken.
    SOCKET_STALL_SHORT_MS = 5_000, Milliseconds,
        "it holds what those who read have use for; it comes back, and gets the newest",
        "(the connection is dropped)";
    /// How long a WebSocket client may be silent; it answers a ping every five seconds.
    SOCKET_SILENCE_MS = 120_000, Milliseconds,
        "as Convex; frees what a vanished client holds",
        "ClientInactive";
    /// Rounds of re-run queries at the same time, over all WebSocket clients.
    LIVE_ROUNDS = 32, Count,
        "the others queue up in order, so that a commit that touches everybody is shared fairly",
        "(never an error: rounds wait)";
    /// Calls that one round has running at the same time.
    LIVE_ROUND_CALLS = 64, Count,
        "32 rounds fill half the queue of calls, so there is room for mutations",
        "(never an error: calls wait)";
    /// Size of one stored file.
    FILE_BYTES = 512 << 20, Bytes,
        "one upload must not fill the store; larger things belong into an object store",
        "The file is too large";
    /// Memory of all stored files.
    FILES_MEMORY_BYTES = 1 << 30, Bytes,
        "a host in memory holds its files there too; on disk there is no such limit",
        "file storage is full";
    /// Age at which an upload URL no longer takes files.
    UPLOAD_URL_MS = 3_600_000, Milliseconds,
        "as Convex, an hour: it is made right before the upload",
        "The upload URL cannot be used: it has expired";
    /// How long an upload may bring no byte.
    UPLOAD_STALL_MS = 60_000, Milliseconds,
        "a client that has stopped sending holds memory for nobody",
        "The upload stopped";
    /// Files that one mutation reads.
    FILES_READ = 100, Count,
        "each is a whole file in the function's heap",
        "Too many files read in a single function execution";
    /// Bytes of files that one mutation reads.
    FILE_BYTES_READ = 16 << 20, Bytes,
        "as for documents; an action reads larger files",
        "Too many bytes of files read in a single function execution";
    /// Files that one mutation stores.
    FILES_WRITTEN = 100, Count,
        "each is a whole file in the function's heap",
        "Too many files stored in a single function execution";
    /// Bytes of files that one mutation stores.
    FILE_BYTES_WRITTEN = 16 << 20, Bytes,
        "as for documents; an action stores larger files",
        "Too many bytes of files stored in a single function execution";
    /// Environment variables of a deployment.
    ENVIRONMENT_VARIABLES = 1_000, Count,
        "as Convex; more settings belong into a table",
        "There are too many environment variables";
    /// Name of an environment variable.
    ENVIRONMENT_NAME_BYTES = 256, Bytes,
        "as Convex",
        "The name of an environment variable is too long";
    /// Value of an environment variable.
    ENVIRONMENT_VALUE_BYTES = 8 << 10, Bytes,
        "as Convex; a certificate fits, a document belongs into a table",
        "The value of … is too long";
    /// All names and values of environment variables.
    ENVIRONMENT_BYTES = 512 << 10, Bytes,
        "as Convex; every worker process gets them all",
        "The environment variables are too large together";
    /// Memory of retained history.
    HISTORY_BYTES = 32 << 20, Bytes,
        "a share of the host's memory budget; older snapshots are dropped first",
        "the oldest timestamp kept is";
    /// Commits in the log after which its oldest ones are moved into the checkpoint, unless
    /// `--history-disk` says otherwise.
    CHECKPOINT_BYTES = 16 << 20, Bytes,
        "what a start reads again; a quarter of a second of it",
        "The history on disk is cut to stay within";
    /// Part of them that stays in the log when a checkpoint is made.
    CHECKPOINT_LEAVES_PART = 4, Count,
        "history that a start brings back: older snapshots to ask for, and who wrote what",
        "the oldest timestamp kept is";
    /// Smallest `--history-disk`.
    HISTORY_DISK_MIN_BYTES = 1 << 20, Bytes,
        "less, and a checkpoint would be made for every few commits",
        "is too small";
    /// Causes that `concave why` can look back at: invalidations and conflicts.
    CAUSES = 1_000, Count,
        "enough to look back over a storm; nobody reads more",
        "(never an error: the oldest go)";
    /// Memory of those causes, with the arguments of the calls.
    CAUSE_BYTES = 4 << 20, Bytes,
        "a share of the host's memory budget, whatever the arguments are",
        "(never an error: the oldest go)";
    /// Causes whose source lines one request looks for.
    CAUSE_SITES = 20, Count,
        "each runs two calls again, each in an isolate of its own",
        "(never an error: ask again for the lines of more)";
    /// Calls that `concave calls` can look back at, and `concave replay` run again.
    CALLS = 2_000, Count,
        "enough to find the call that somebody complains about",
        "(never an error: the oldest go)";
    /// Memory of those calls: arguments, results, log lines, what they read.
    CALLS_BYTES = 8 << 20, Bytes,
        "a share of the host's memory budget, whatever the arguments and results are",
        "(never an error: the oldest go)";
    /// Arguments, result and log lines of one of them.
    CALL_RECORD_BYTES = 1 << 20, Bytes,
        "one call must not push out the rest",
        "is too large to be kept";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_reason_and_a_text() {
        assert!(TABLE.len() > 30);
        for limit in TABLE {
            assert!(limit.value > 0, "{}", limit.name);
            assert!(!limit.reason.is_empty() && !limit.error.is_empty(), "{}", limit.name);
        }
    }
}
