//! Pagination: pages without gaps or doubles, whatever is inserted and deleted between their runs.
//!
//! In: chains of pages, run again with their journals. Out: together they are always the query.

use proptest::prelude::*;

use super::*;
use crate::pagination::{Page, PageRequest, PageStatus};
use crate::work::Budget;

fn request(query: &str, size: u64) -> PageRequest<'_> {
    PageRequest {
        query,
        cursor: None,
        end_cursor: None,
        page_size: size,
        maximum_rows_read: None,
        maximum_bytes_read: None,
        journal: None,
    }
}

fn page(database: &Database, request: PageRequest<'_>) -> Result<Page, UserError> {
    database.begin(database.snapshot(), &given(1), true).page("", request)
}

fn ids(documents: &[Arc<Document>]) -> Vec<String> {
    documents.iter().map(|document| document.id.encode()).collect()
}

fn insert(database: &Database, call: u64, x: u8) {
    mutate(database, call, |tx| tx.insert("", "a", value(&format!(r#"{{"x":{x}}}"#))));
}

fn check_chain(sizes: &[u64], xs: &[u8], changes: &[(bool, u8)], descending: bool) {
    let database = deployed();
    xs.iter().enumerate().for_each(|(call, x)| insert(&database, call as u64 + 1, *x));
    let order = if descending { "desc" } else { "asc" };
    let query = index_query("a.by_x", &bound("Gte", "x", "2"), order, "");
    let mut pages: Vec<(Option<String>, Page)> = Vec::new();
    let mut cursor = None;
    for size in sizes.iter().cycle() {
        let next = PageRequest { cursor: cursor.as_deref(), ..request(&query, *size) };
        let found = page(&database, next).unwrap();
        let (done, end) = (found.is_done, found.continue_cursor.clone());
        pages.push((cursor, found));
        cursor = Some(end);
        if done {
            break;
        }
    }
    for (call, (delete, x)) in changes.iter().enumerate() {
        let call = call as u64 + 1000;
        let found = collect(&mut begin(&database, call), &full_scan("a")).unwrap();
        match found.get(usize::from(*x)) {
            Some(document) if *delete => {
                mutate(&database, call, |tx| tx.remove("", &document.id.encode(), None));
            }
            _ => insert(&database, call, x % 12),
        }
    }
    let mut together = Vec::new();
    for (cursor, before) in &pages {
        let again = PageRequest {
            cursor: cursor.as_deref(),
            journal: Some(&before.journal),
            ..request(&query, 1)
        };
        let now = page(&database, again).unwrap();
        assert_eq!(now.continue_cursor, before.continue_cursor, "a page keeps its end");
        assert_eq!(now.is_done, before.is_done);
        together.extend(ids(&now.documents));
    }
    let whole = collect(&mut begin(&database, 1), &query).unwrap();
    assert_eq!(together, ids(&whole));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pages_stay_gapless(
        sizes in prop::collection::vec(1u64..6, 1..5),
        xs in prop::collection::vec(0u8..12, 0..24),
        changes in prop::collection::vec((any::<bool>(), 0u8..30), 0..16),
        descending in any::<bool>(),
    ) {
        check_chain(&sizes, &xs, &changes, descending);
    }
}

#[test]
fn an_end_cursor_goes_before_size_and_journal() {
    let database = deployed();
    (0..6).for_each(|x| insert(&database, x + 1, x as u8));
    let query = index_query("a.by_x", "", "asc", "");
    let two = page(&database, request(&query, 2)).unwrap();
    let four = page(&database, request(&query, 4)).unwrap();
    let bounded = PageRequest {
        end_cursor: Some(&four.continue_cursor),
        journal: Some(&two.journal),
        ..request(&query, 1)
    };
    let found = page(&database, bounded).unwrap();
    assert_eq!(ids(&found.documents), ids(&four.documents));
    let split = four.split_cursor.expect("more than two documents");
    assert_eq!(split, two.continue_cursor, "the middle of four is behind the second");
    assert!(two.split_cursor.is_none());
    let rest = PageRequest { cursor: Some(&four.continue_cursor), ..request(&query, 2) };
    let rest = page(&database, rest).unwrap();
    assert!(!rest.is_done && rest.documents.len() == 2);
    let last = PageRequest { cursor: Some(&rest.continue_cursor), ..request(&query, 2) };
    let last = page(&database, last).unwrap();
    assert!(last.is_done && last.documents.is_empty());
    let beyond = PageRequest { cursor: Some(&last.continue_cursor), ..request(&query, 2) };
    assert!(page(&database, beyond).unwrap().documents.is_empty());
}

#[test]
fn a_budget_stops_a_page_early() {
    let database = deployed();
    (0..10).for_each(|x| insert(&database, x + 1, x as u8));
    let filter = r#"{"filter":{"$gte":[{"$field":"x"},{"$literal":5}]}}"#;
    let query = index_query("a.by_x", "", "asc", filter);
    let limited = |rows| PageRequest { maximum_rows_read: Some(rows), ..request(&query, 5) };
    let found = page(&database, limited(4)).unwrap();
    assert_eq!((found.documents.len(), found.is_done), (0, false));
    assert_eq!(found.status, Some(PageStatus::SplitRequired));
    let next = PageRequest { cursor: Some(&found.continue_cursor), ..limited(100) };
    let next = page(&database, next).unwrap();
    assert_eq!(next.documents.len(), 5);
    assert_eq!(next.status, None);
    assert_eq!(page(&database, limited(12)).unwrap().status, Some(PageStatus::SplitRecommended));
    let bytes = PageRequest { maximum_bytes_read: Some(1), ..request(&query, 5) };
    assert_eq!(page(&database, bytes).unwrap().status, Some(PageStatus::SplitRequired));
}

/// The pages between two cursors, split as clients do it wherever a page says that it must be.
fn split_up(
    page: &mut impl FnMut(PageRequest<'_>) -> Page,
    query: &str,
    (cursor, end): (Option<&str>, &str),
) -> Vec<String> {
    let bounded = PageRequest { cursor, end_cursor: Some(end), ..request(query, 1) };
    let found = page(bounded);
    assert_eq!(found.continue_cursor, end, "a page with an end goes on at that end");
    if found.status != Some(PageStatus::SplitRequired) {
        return ids(&found.documents);
    }
    let split = found.split_cursor.expect("a page that must be split says where");
    let mut all = split_up(page, query, (cursor, &split));
    all.extend(split_up(page, query, (Some(&split), end)));
    all
}

#[test]
fn a_page_that_a_budget_stopped_is_split_among_the_rows_read() {
    let database = deployed();
    (0..20).for_each(|x| insert(&database, x + 1, x as u8));
    for (kept, rows) in [(3, 8), (0, 8), (19, 8), (9, 3), (0, 2), (1, 1)] {
        let filter = format!(r#"{{"filter":{{"$eq":[{{"$field":"x"}},{{"$literal":{kept}}}]}}}}"#);
        let query = index_query("a.by_x", "", "asc", &filter);
        let limited = PageRequest { maximum_rows_read: Some(rows), ..request(&query, 5) };
        let found = page(&database, limited).unwrap();
        assert_eq!(found.status, Some(PageStatus::SplitRequired), "{kept} {rows}");
        let split = found.split_cursor.as_deref().expect("there are rows on both sides");
        let half = |cursor, end_cursor| {
            let half = PageRequest { cursor, end_cursor: Some(end_cursor), ..limited };
            page(&database, half).unwrap()
        };
        let halves = [half(None, split), half(Some(split), &found.continue_cursor)];
        for half in &halves {
            assert_ne!(half.status, Some(PageStatus::SplitRequired), "{kept} {rows}");
        }
        let together: Vec<_> = halves.iter().flat_map(|half| ids(&half.documents)).collect();
        assert_eq!(together, ids(&found.documents));
    }
}

#[test]
fn limits_of_the_function_end_a_page_and_nothing_is_skipped() {
    let database = deployed();
    (0..50).for_each(|x| insert(&database, x + 1, x as u8));
    let size = u64::from(collect(&mut begin(&database, 1), &full_scan("a")).unwrap()[0].size);
    let filter = r#"{"filter":{"$eq":[{"$mod":[{"$field":"x"},{"$literal":7}]},{"$literal":1}]}}"#;
    for (documents_read, bytes_read) in [(10, 1 << 20), (1 << 20, 10 * size), (1, 1 << 20)] {
        for order in ["asc", "desc"] {
            let query = index_query("a.by_x", "", order, filter);
            let mut limited = |request: PageRequest<'_>| {
                let mut reader = database.begin(database.snapshot(), &given(1), true);
                let budget = Budget { documents_read, bytes_read, ..Budget::LIMITS };
                reader.enter(Some(budget));
                let found = reader.page("", request).unwrap();
                let used = reader.usage();
                assert!(used.documents_read <= documents_read && used.bytes_read <= bytes_read);
                found
            };
            let whole = page(&database, request(&query, 50)).unwrap();
            let first = limited(request(&query, 50));
            assert_eq!((first.status, first.is_done), (Some(PageStatus::SplitRequired), false));
            assert!(first.split_cursor.is_some());
            let all = split_up(&mut limited, &query, (None, &whole.continue_cursor));
            assert_eq!(all, ids(&whole.documents), "{documents_read} {bytes_read} {order}");
        }
    }
}

#[test]
fn a_page_that_can_read_nothing_is_refused() {
    let database = deployed();
    insert(&database, 1, 1);
    let mut reader = database.begin(database.snapshot(), &given(1), true);
    reader.enter(Some(Budget { documents_read: 0, ..Budget::LIMITS }));
    let query = index_query("a.by_x", "", "asc", "");
    assert_eq!(reader.page("", request(&query, 1)).unwrap_err().code, "TooManyReads");
}

#[test]
fn a_page_that_a_limit_ended_has_read_what_stopped_it() {
    let database = deployed();
    (0..6).for_each(|x| insert(&database, x + 1, x as u8));
    let query = index_query("a.by_x", "", "asc", "");
    let mut reader = database.begin(database.snapshot(), &given(1), true);
    reader.enter(Some(Budget { documents_read: 3, ..Budget::LIMITS }));
    reader.page("", request(&query, 6)).unwrap();
    let reads = Arc::new(reader.reads().clone());
    let stopping = page(&database, request(&query, 6)).unwrap().documents[3].id.encode();
    insert(&database, 10, 5);
    assert!(database.history().entries[0].overlap(&reads).is_none(), "behind what stopped it");
    mutate(&database, 11, |tx| tx.remove("", &stopping, None));
    assert!(database.history().entries[0].overlap(&reads).is_some(), "without it, no split");
}

#[test]
fn what_cannot_be_a_page_is_refused_with_convex_texts() {
    let database = deployed();
    insert(&database, 1, 1);
    let query = index_query("a.by_x", "", "asc", "");
    let other = index_query("a.by_x", "", "desc", "");
    let cursor = page(&database, request(&query, 1)).unwrap().continue_cursor;
    let foreign = PageRequest { cursor: Some(&cursor), ..request(&other, 1) };
    let refused = page(&database, foreign).unwrap_err();
    assert!(refused.message.starts_with("InvalidCursor: Tried to run a query starting from a"));
    assert_eq!(
        refused.data.as_deref(),
        Some(r#"{"isConvexSystemError":true,"paginationError":"InvalidCursor"}"#)
    );
    let garbage = PageRequest { cursor: Some("garbage"), ..request(&query, 1) };
    assert_eq!(page(&database, garbage).unwrap_err().code, "InvalidCursor");
    let text = |request| page(&database, request).unwrap_err().message;
    assert_eq!(text(request(&query, 0)), "Must request at least 1 document while paginating");
    assert_eq!(text(request(&query, 40_000)), "Requested too many items: 40000");
    let mut transaction = begin(&database, 2);
    transaction.page("", request(&query, 1)).unwrap();
    let outer = transaction.enter(None);
    transaction.page("", request(&query, 1)).unwrap();
    transaction.leave(outer);
    let second = transaction.page("", request(&query, 1)).unwrap_err().message;
    assert_eq!(
        second,
        "This query or mutation function ran multiple paginated queries. Convex only supports a \
         single paginated query in each function."
    );
    let child = begin(&database, 3).page("child", request(&query, 1)).unwrap_err().message;
    assert!(child.starts_with("paginate() is only supported in the app."));
}

#[test]
fn a_page_reads_only_up_to_its_end() {
    let database = deployed();
    (0..6).for_each(|x| insert(&database, x + 1, x as u8));
    let query = index_query("a.by_x", "", "asc", "");
    let mut reader = database.begin(database.snapshot(), &given(1), true);
    reader.page("", request(&query, 3)).unwrap();
    let reads = Arc::new(reader.reads().clone());
    insert(&database, 10, 5);
    let commit = database.history().entries[0].clone();
    assert!(commit.overlap(&reads).is_none(), "behind the page's end");
    insert(&database, 11, 1);
    let commit = database.history().entries[0].clone();
    assert!(commit.overlap(&reads).is_some(), "inside the page");
}
