//! What repairs a push that failed, besides a save: environment variables and documents.
//!
//! In: a host's database, and the table whose documents did not fit. Out: one wake-up when any of
//! it has changed since the push began. Invariant: no change is missed, those made during the push
//! among them; many changes in a row are one wake-up.

use std::sync::Arc;
use std::time::Duration;

use database::commit::Database;
use database::environment;
use database::key::Interval;
use database::record::Timestamp;
use database::subscriptions::{Invalidation, Owner, SubscriptionId, Watcher};
use tokio::sync::Notify;

/// How long a change is left to be followed by others: a busy table must not cost a push for each
/// of its documents.
const PAUSE: Duration = Duration::from_millis(300);

/// A table, and the component that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOf {
    /// The app's path is empty.
    pub component: String,
    /// Its name.
    pub table: String,
}

/// Looks out for such changes.
pub struct Repairs {
    database: Arc<Database>,
    since: Timestamp,
}

impl Repairs {
    /// Of what is in this database.
    pub fn new(database: Arc<Database>) -> Self {
        let since = database.snapshot().ts;
        Self { database, since }
    }

    /// A push begins: it sees what changed until now.
    pub fn begin(&mut self) {
        self.since = self.database.snapshot().ts;
    }

    /// Waits until a variable has changed, or a document of the table.
    pub async fn made(&self, table: Option<&TableOf>) {
        let mut reads = environment::every_variable();
        if let Some(TableOf { component, table }) = table
            && let Some(found) = self.database.snapshot().table(component, table)
        {
            reads.insert(found.by_id.id, Interval::all());
        }
        let bell = Arc::new(Bell(Notify::new()));
        let watcher: Arc<dyn Watcher> = Arc::clone(&bell) as Arc<dyn Watcher>;
        let owner = Owner::Watcher(Arc::downgrade(&watcher));
        let subscriptions = self.database.subscriptions();
        let _subscribed = match subscriptions.register(&Arc::new(reads), self.since, owner) {
            Ok(id) => Some(Subscribed { database: &self.database, id }),
            Err(why) => {
                let bell = Arc::clone(&bell);
                self.database.when_durable(why.at, Box::new(move |_| bell.0.notify_one()));
                None
            }
        };
        bell.0.notified().await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Rings when a change is durable, and so can be seen.
struct Bell(Notify);

impl Watcher for Bell {
    fn end(self: Arc<Self>, _: &Invalidation) {}

    fn durable(&self) {
        self.0.notify_one();
    }
}

/// A subscription that nobody waits for any more ends.
struct Subscribed<'a> {
    database: &'a Database,
    id: SubscriptionId,
}

impl Drop for Subscribed<'_> {
    fn drop(&mut self) {
        self.database.subscriptions().cancel(self.id);
    }
}
