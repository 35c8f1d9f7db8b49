//! Actions: functions that reach the outside world, in worker processes of the same binary.
//!
//! In: an action's code, path and arguments. Out: its result and console lines, and while it runs
//! calls back to the host over a framed local socket.
//! Invariant: nothing that an action does touches the host: a worker that crashes, runs out of
//! memory or loops is killed and replaced.
//!
//! ```text
//! host    pool.rs       which process runs a job        process.rs    one process: runs, socket
//!         starting.rs   processes on their way, and who waits for them
//!         streams.rs    bodies, a window at a time      bounds.rs     what a run may leave here
//!         protocol.rs   what the two say to each other
//! worker  worker.rs     messages in, threads            run.rs        one run on its thread
//!         runtime.rs    snapshot, context               run_state.rs  questions, streams, the end
//!         syscalls.rs   what JavaScript may ask for     heap.rs       memory, the stop switch
//!         ahead.rs      runtimes made ahead             console.rs    lines
//!         loader.rs     modules                         linear_memory.rs  memories of wasm
//!         globals.rs    what an action finds            lazy.rs       from its first touch on
//!         scripts.rs    the platform's, when touched    wire.rs       messages out
//!         sharing.rs    contexts of many runs           threads.rs    used again, run after run
//!         residents.rs  modules of the snapshot         owed.rs       an end, come what may
//!         fetch.rs      requests                        network.rs    where they may go
//!         outgoing.rs   their bodies                    decoding.rs   codings of responses
//!         tls.rs        TLS                             explanation.rs  what went wrong
//!         crypto.rs     WebCrypto                       coverage.rs   what ran, for tests
//! Node    node.rs       which Node, how it is started   node_folder.rs    modules as files
//!         node_packages.rs  what npm installs           js/node       the process's own half
//! both    confinement.rs  what a process may do to others
//! ```

mod ahead;
mod bounds;
pub mod confinement;
mod console;
mod coverage;
mod crypto;
mod decoding;
mod explanation;
mod fetch;
mod globals;
mod heap;
mod lazy;
mod linear_memory;
mod loader;
mod network;
pub mod node;
pub mod node_folder;
pub mod node_packages;
mod outgoing;
mod owed;
pub mod pool;
mod process;
pub mod protocol;
mod residents;
mod run;
mod run_state;
mod runtime;
mod scripts;
mod sharing;
mod starting;
pub mod streams;
mod syscalls;
mod threads;
mod tls;
mod wire;
pub mod worker;
