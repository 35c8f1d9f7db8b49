//! Actions: functions that reach the outside world, in worker processes of the same binary.
//!
//! In: an action's code, path and arguments. Out: its result and console lines, and while it runs
//! calls back to the host over a framed local socket.
//! Invariant: nothing that an action does touches the host: a worker that crashes, runs out of
//! memory or loops is killed and replaced.
