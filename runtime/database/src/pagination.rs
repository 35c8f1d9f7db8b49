//! Pages of a query: from a cursor on, up to a size, a budget, or the end that an earlier run set.
//!
//! In: a query, a cursor, and where an earlier run of the same page ended. Out: documents and the
//! cursors between which they lie.
//! Invariant: pages are gapless. A page that is run again with its journal covers exactly what it
//! covered before, (cursor, end], however many documents lie there now; so the next page, which
//! begins at that end, still begins where this one stops.
//!
//! ```text
//!   start ──────────▶ c1 ──────────▶ c2 ──────────▶ end      c1, c2: keys of the index
//!     page 1 (.., c1]    page 2 (c1, c2]   page 3 (c2, ..)    a cursor = query's hash + key
//! ```

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::document::Document;
use crate::error::UserError;
use crate::key::{Interval, Key};
use crate::limits;
use crate::query::{OpenQuery, Operator, Scanned, divide, next_key};
use crate::transaction::Transaction;

/// First byte of a cursor's bytes: the version of their layout.
const LAYOUT: u8 = 1;

/// Bytes of the query's hash in a cursor.
const FINGERPRINT_BYTES: usize = 16;

/// Pages with more documents than this should be split.
const SPLIT_DOCUMENTS: usize = 6144;

/// `1.0/queryPage` (`convex-compat.md` section 1.11).
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// The query's JSON.
    pub query: &'a str,
    /// Where to begin; `None` is the start.
    pub cursor: Option<&'a str>,
    /// Where to end, whatever the size; goes before the journal.
    pub end_cursor: Option<&'a str>,
    /// Documents wanted.
    pub page_size: u64,
    /// Documents to look at, at most.
    pub maximum_rows_read: Option<u64>,
    /// Bytes of documents to look at, at most.
    pub maximum_bytes_read: Option<u64>,
    /// What an earlier run of the same call gave as [`Page::journal`].
    pub journal: Option<&'a str>,
}

/// Whether a page grew too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStatus {
    /// Above three quarters of a budget.
    SplitRecommended,
    /// A budget, or a limit of the function, stopped it early. With an end of its own, it lacks
    /// documents before that end.
    SplitRequired,
}

impl PageStatus {
    /// As clients spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SplitRecommended => "SplitRecommended",
            Self::SplitRequired => "SplitRequired",
        }
    }
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its documents.
    pub documents: Vec<Arc<Document>>,
    /// Whether the query ends here.
    pub is_done: bool,
    /// Where the next page begins.
    pub continue_cursor: String,
    /// A place in the middle of what was read, for a page that read more than two documents or must
    /// be split.
    pub split_cursor: Option<String>,
    /// Whether it should be split.
    pub status: Option<PageStatus>,
    /// To be handed back when the same call runs again.
    pub journal: String,
}

/// A place between two keys of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    /// Right behind a key, in scan order.
    After(Key),
    /// Behind everything.
    End,
}

/// What a page has met so far.
#[derive(Default)]
struct Met {
    /// Those that passed the operators.
    documents: Vec<Arc<Document>>,
    /// Keys of all that were read.
    keys: Vec<Key>,
    bytes: u64,
    /// Whether a limit of the function kept it from reading the next.
    out_of_room: bool,
}

impl Transaction {
    /// One page of a query.
    ///
    /// # Errors
    /// A second pagination in one function, sizes out of range, a cursor of another query, and what
    /// [`Transaction::open_query`] and [`Transaction::next`] refuse.
    pub fn page(&mut self, component: &str, request: PageRequest<'_>) -> Result<Page, UserError> {
        check_sizes(&request)?;
        // Not of the host itself, which shows the operator whatever there is.
        if !component.is_empty() && !self.sees_hidden {
            return Err(invalid(
                "paginate() is only supported in the app. Learn more at \
                 https://docs.convex.dev/components/authoring#pagination",
            ));
        }
        if std::mem::replace(&mut self.paginated, true) {
            return Err(UserError::new(
                "MultiplePaginatedQueries",
                "This query or mutation function ran multiple paginated queries. Convex only \
                 supports a single paginated query in each function.",
            ));
        }
        let fingerprint = fingerprint(request.query);
        let begin = request.cursor.map(|cursor| decode(cursor, fingerprint)).transpose()?;
        let end = match (request.end_cursor, request.journal) {
            (Some(end), _) => Some(decode(end, fingerprint)?),
            // A journal of other code says nothing about this query: the page runs afresh.
            (None, Some(journal)) => decode(journal, fingerprint).ok(),
            (None, None) => None,
        };
        let mut query = self.prepare(component, request.query)?;
        if query.operators.iter().any(|operator| matches!(operator, Operator::Limit(_))) {
            return Err(invalid("A query with a limit can't be paginated."));
        }
        let whole = query.rest.clone();
        query.rest = part(&whole, begin.as_ref(), end.as_ref(), query.descending);
        let (met, stopped) = match &end {
            // Its end is fixed, so neither size nor budget stops it: only what a function may read.
            Some(_) => {
                let met = self.meet(&mut query, None)?;
                let stopped = met.out_of_room;
                (met, stopped)
            }
            None => {
                let met = self.meet(&mut query, Some(&request))?;
                let stopped = (met.out_of_room || over_budget(&met, &request, 1.0))
                    && (met.documents.len() as u64) < request.page_size;
                (met, stopped)
            }
        };
        let full = met.documents.len() as u64 >= request.page_size;
        let position = match (end, met.keys.last()) {
            (Some(end), _) => end,
            (None, Some(last)) if full || stopped => Position::After(Arc::clone(last)),
            (None, _) => Position::End,
        };
        let status = status(&met, &request, stopped);
        Ok(met.page(position, fingerprint, status))
    }

    /// Scans until the page is full, the budget is used up or the interval ends; without a request
    /// until the interval ends. The first document is refused where the function may not read it: a
    /// page without one would begin again where it ended.
    fn meet(
        &mut self,
        query: &mut OpenQuery,
        request: Option<&PageRequest<'_>>,
    ) -> Result<Met, UserError> {
        let mut met = Met::default();
        while let Some(found) = self.find(query) {
            if !met.keys.is_empty() && !self.has_room_for(&found.1) {
                met.out_of_room = true;
                break;
            }
            let Scanned { key, document, passed } = self.take(query, found)?;
            met.bytes += u64::from(document.size);
            met.keys.push(key);
            if passed {
                met.documents.push(document);
            }
            let enough = |request: &PageRequest<'_>| {
                met.documents.len() as u64 >= request.page_size || over_budget(&met, request, 1.0)
            };
            if request.is_some_and(enough) {
                break;
            }
        }
        Ok(met)
    }
}

impl Met {
    fn page(
        self,
        position: Position,
        fingerprint: [u8; FINGERPRINT_BYTES],
        status: Option<PageStatus>,
    ) -> Page {
        let continue_cursor = encode(&position, fingerprint);
        // Of what was read, since that is what was too much: few of it may have passed. A client
        // waits for the halves of a page that must be split, however little was read.
        let read = self.keys.len();
        let divides = read > 2 || (status == Some(PageStatus::SplitRequired) && read > 0);
        let middle = divides.then(|| (read / 2).max(1) - 1);
        let split = middle.map(|at| Position::After(Arc::clone(&self.keys[at])));
        Page {
            is_done: position == Position::End,
            split_cursor: split.map(|split| encode(&split, fingerprint)),
            journal: continue_cursor.clone(),
            continue_cursor,
            documents: self.documents,
            status,
        }
    }
}

fn check_sizes(request: &PageRequest<'_>) -> Result<(), UserError> {
    if request.page_size == 0 {
        return Err(invalid("Must request at least 1 document while paginating"));
    }
    if request.page_size > limits::DOCUMENTS_READ {
        return Err(invalid(&format!("Requested too many items: {}", request.page_size)));
    }
    if request.maximum_rows_read == Some(0) || request.maximum_bytes_read == Some(0) {
        return Err(invalid("Must read at least 1 row and 1 byte while paginating"));
    }
    Ok(())
}

fn invalid(text: &str) -> UserError {
    UserError::new("InvalidPagination", text)
}

/// The part of an interval between two positions, in scan order.
fn part(
    whole: &Interval,
    begin: Option<&Position>,
    end: Option<&Position>,
    descending: bool,
) -> Interval {
    let mut part = whole.clone();
    match begin {
        Some(Position::After(key)) => part = divide(&part, key, descending).1,
        Some(Position::End) => return Interval { end: Some(Arc::clone(&part.start)), ..part },
        None => {}
    }
    match end {
        Some(Position::After(key)) if descending => {
            part.start = part.start.max(Arc::clone(key));
        }
        Some(Position::After(key)) => {
            let behind = next_key(key);
            part.end = Some(part.end.map_or(Arc::clone(&behind), |end| end.min(behind)));
        }
        Some(Position::End) | None => {}
    }
    part
}

/// Whether the page looked at that share of a budget, or all of it.
fn over_budget(met: &Met, request: &PageRequest<'_>, share: f64) -> bool {
    let over = |used: u64, limit: u64| used as f64 >= limit as f64 * share;
    over(met.keys.len() as u64, request.maximum_rows_read.unwrap_or(limits::DOCUMENTS_READ))
        || over(met.bytes, request.maximum_bytes_read.unwrap_or(limits::BYTES_READ))
}

fn status(met: &Met, request: &PageRequest<'_>, stopped: bool) -> Option<PageStatus> {
    if stopped {
        return Some(PageStatus::SplitRequired);
    }
    let large = over_budget(met, request, 0.75) || met.documents.len() > SPLIT_DOCUMENTS;
    large.then_some(PageStatus::SplitRecommended)
}

/// Ties a cursor to its query.
fn fingerprint(query: &str) -> [u8; FINGERPRINT_BYTES] {
    let hash: [u8; 32] = Sha256::digest(query.as_bytes()).into();
    hash[..FINGERPRINT_BYTES].try_into().expect("a hash is longer than its front")
}

fn encode(position: &Position, fingerprint: [u8; FINGERPRINT_BYTES]) -> String {
    let mut bytes = vec![LAYOUT];
    bytes.extend_from_slice(&fingerprint);
    match position {
        Position::End => bytes.push(0),
        Position::After(key) => {
            bytes.push(1);
            bytes.extend_from_slice(key);
        }
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(cursor: &str, fingerprint: [u8; FINGERPRINT_BYTES]) -> Result<Position, UserError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    let own = bytes.split_first().filter(|(layout, _)| **layout == LAYOUT);
    let own = own.and_then(|(_, rest)| rest.strip_prefix(&fingerprint[..]));
    match own.and_then(<[u8]>::split_first) {
        Some((0, [])) => Ok(Position::End),
        Some((1, key)) => Ok(Position::After(key.into())),
        _ => Err(UserError {
            code: "InvalidCursor",
            message: "InvalidCursor: Tried to run a query starting from a cursor, but it looks \
                      like this cursor is from a different query."
                .into(),
            data: Some(r#"{"isConvexSystemError":true,"paginationError":"InvalidCursor"}"#.into()),
        }),
    }
}
