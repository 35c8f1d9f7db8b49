//! Queries over one index: the JSON a function sends becomes an interval of keys and a list of
//! operators, and documents come out one by one.
//!
//! In: query JSON (`convex-compat.md` section 1.11). Out: documents in index order.
//! Invariant: what is recorded as read is exactly what was looked at: from the end the scan began
//! at, up to the last key it met, or to the other end of the interval once that was reached. What
//! the transaction writes after the first look neither adds documents nor takes any away.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::catalog::{HIDDEN_INDEX, Index};
use crate::document::Document;
use crate::error::UserError;
use crate::expression::Expression;
use crate::index_maps::IndexMaps;
use crate::index_range::{Bound, Comparison, index_interval};
use crate::json;
use crate::key::{Interval, Key};
use crate::limits;
use crate::snapshot::IndexId;
use crate::transaction::Transaction;

/// A query that is being read.
pub(crate) struct OpenQuery {
    /// `None`: the table does not exist, so there is nothing to read.
    index: Option<IndexId>,
    /// What has not been looked at yet.
    pub(crate) rest: Interval,
    pub(crate) descending: bool,
    pub(crate) operators: Vec<Operator>,
    /// What it goes over, from the first look on: a loop that writes must not meet its own writes.
    maps: Option<IndexMaps>,
    done: bool,
}

/// One step that a document passes through.
pub(crate) enum Operator {
    /// Keeps documents for which it is true.
    Filter(Expression),
    /// Lets that many more documents pass.
    Limit(u64),
}

/// The next document of a query, with its key.
pub(crate) type Found = (Key, Arc<Document>);

/// One document that a scan met.
pub(crate) struct Scanned {
    pub(crate) key: Key,
    pub(crate) document: Arc<Document>,
    /// Whether it passed the operators.
    pub(crate) passed: bool,
}

#[derive(Deserialize)]
struct QueryJson<'a> {
    #[serde(borrow)]
    source: SourceJson<'a>,
    #[serde(default, borrow)]
    operators: Vec<OperatorJson<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceJson<'a> {
    r#type: SourceType,
    table_name: Option<String>,
    index_name: Option<String>,
    #[serde(default, borrow)]
    range: Vec<BoundJson<'a>>,
    order: Option<Order>,
}

#[derive(Deserialize)]
enum SourceType {
    FullTableScan,
    IndexRange,
    Search,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Order {
    Asc,
    Desc,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoundJson<'a> {
    r#type: Comparison,
    field_path: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct OperatorJson<'a> {
    #[serde(borrow)]
    filter: Option<&'a RawValue>,
    limit: Option<f64>,
}

impl Transaction {
    /// Opens a query; its documents come from [`Transaction::next`].
    ///
    /// # Errors
    /// JSON of another shape, an index that is missing, staged or used out of order, full text
    /// search, the limit of reads.
    pub fn open_query(&mut self, component: &str, query_json: &str) -> Result<u32, UserError> {
        let query = self.prepare(component, query_json)?;
        let id = self.queries_opened;
        self.queries_opened += 1;
        self.queries.insert(id, query);
        Ok(id)
    }

    /// The next document of a query; `None` at its end.
    ///
    /// # Errors
    /// A query that is not open, a filter that fails, a limit.
    pub fn next(&mut self, query: u32) -> Result<Option<Arc<Document>>, UserError> {
        // Taken out while it runs, because reading needs the rest of the transaction.
        let Some(mut open) = self.queries.remove(&query) else {
            return Err(UserError::new("QueryNotFound", "in-progress query not found"));
        };
        let result = loop {
            match self.scan(&mut open) {
                Ok(Some(scanned)) if scanned.passed => break Ok(Some(scanned.document)),
                Ok(Some(_)) => {}
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.queries.insert(query, open);
        result
    }

    /// Forgets a query; says whether it was open.
    pub fn close_query(&mut self, query: u32) -> bool {
        self.queries.remove(&query).is_some()
    }

    /// Parses a query and finds its index. Counts one range.
    pub(crate) fn prepare(
        &mut self,
        component: &str,
        query_json: &str,
    ) -> Result<OpenQuery, UserError> {
        let query: QueryJson<'_> = serde_json::from_str(query_json)
            .map_err(|error| UserError::new("InvalidQuery", format!("Invalid query: {error}")))?;
        let operators = parse_operators(&query.operators)?;
        self.count_range()?;
        let source = query.source;
        let (index, rest) = match source.r#type {
            SourceType::FullTableScan => {
                let table = required(source.table_name, "tableName")?;
                let found = self.table_named(component, &table);
                (found.map(|table| Arc::clone(&table.by_creation_time)), Interval::all())
            }
            SourceType::IndexRange => {
                let name = required(source.index_name, "indexName")?;
                self.index_range(component, &name, &source.range)?
            }
            SourceType::Search => {
                return Err(UserError::new(
                    "SearchNotSupported",
                    "Full text search (`withSearchIndex`) is not supported yet by this host. Use \
                     an index and `filter`, or search in the function.",
                ));
            }
        };
        Ok(OpenQuery {
            index: index.map(|index| index.id),
            rest,
            descending: source.order == Some(Order::Desc),
            operators,
            maps: None,
            done: false,
        })
    }

    fn index_range(
        &mut self,
        component: &str,
        name: &str,
        range: &[BoundJson<'_>],
    ) -> Result<(Option<Arc<Index>>, Interval), UserError> {
        let not_found = || UserError::new("IndexNotFound", format!("Index {name} not found."));
        let (table, index) = name.split_once('.').ok_or_else(not_found)?;
        let Some(table) = self.table_named(component, table) else {
            return match index {
                "by_id" | "by_creation_time" => Ok((None, Interval::all())),
                _ => Err(not_found()),
            };
        };
        let index = table.index(index).filter(|_| index != HIDDEN_INDEX).ok_or_else(not_found)?;
        if index.staged {
            return Err(UserError::new(
                "StagedIndex",
                format!(
                    "Index {name} is currently staged and not available to query until it is \
                     enabled."
                ),
            ));
        }
        let bounds = range.iter().map(|bound| {
            let value = json::decode_optional(bound.value.get())?;
            Ok(Bound { field: &bound.field_path, comparison: bound.r#type, value })
        });
        let bounds: Vec<_> = bounds.collect::<Result<_, UserError>>()?;
        Ok((Some(Arc::clone(index)), index_interval(index, &bounds)?))
    }

    /// Meets the next document of a query, and takes it; `None` at the end.
    pub(crate) fn scan(&mut self, query: &mut OpenQuery) -> Result<Option<Scanned>, UserError> {
        self.find(query).map(|found| self.take(query, found)).transpose()
    }

    /// Looks at the next document of a query and records it as read; `None` at the end.
    pub(crate) fn find(&mut self, query: &mut OpenQuery) -> Option<Found> {
        let used_up = |operator: &Operator| matches!(operator, Operator::Limit(0));
        if query.done || query.operators.iter().any(used_up) {
            return None;
        }
        let index = query.index?;
        let maps = query.maps.get_or_insert_with(|| self.state.maps.settled().clone());
        let Some(found) = first(maps.range(index, &query.rest), query.descending) else {
            self.reads.insert(index, query.rest.clone());
            query.done = true;
            query.maps = None;
            return None;
        };
        self.reads.insert(index, divide(&query.rest, &found.0, query.descending).0);
        Some(found)
    }

    /// Counts the document that was found and sends it through the operators; the query goes on
    /// behind it.
    pub(crate) fn take(
        &mut self,
        query: &mut OpenQuery,
        (key, document): Found,
    ) -> Result<Scanned, UserError> {
        query.rest = divide(&query.rest, &key, query.descending).1;
        self.count_document(&document)?;
        let passed = query.pass(&document)?;
        Ok(Scanned { key, document, passed })
    }
}

/// The one that a scan meets first.
fn first<'a>(
    mut entries: impl DoubleEndedIterator<Item = (&'a [u8], &'a Arc<Document>)>,
    descending: bool,
) -> Option<Found> {
    let (key, document) = if descending { entries.next_back() } else { entries.next() }?;
    Some((key.into(), Arc::clone(document)))
}

impl OpenQuery {
    /// Sends a document through the operators.
    fn pass(&mut self, document: &Document) -> Result<bool, UserError> {
        let mut value = None;
        for operator in &mut self.operators {
            match operator {
                Operator::Filter(expression) => {
                    let value = value.get_or_insert_with(|| document.value());
                    if !expression.is_true(value)? {
                        return Ok(false);
                    }
                }
                Operator::Limit(0) => return Ok(false),
                Operator::Limit(rest) => *rest -= 1,
            }
        }
        Ok(true)
    }
}

/// Cuts an interval right behind `key`, in scan order: what was met, and what is left.
pub(crate) fn divide(interval: &Interval, key: &[u8], descending: bool) -> (Interval, Interval) {
    let Interval { start, end } = interval.clone();
    if descending {
        let at: Key = key.into();
        (Interval { start: Arc::clone(&at), end }, Interval { start, end: Some(at) })
    } else {
        let behind = next_key(key);
        (Interval { start, end: Some(Arc::clone(&behind)) }, Interval { start: behind, end })
    }
}

/// The smallest key greater than `key`.
pub(crate) fn next_key(key: &[u8]) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn parse_operators(operators: &[OperatorJson<'_>]) -> Result<Vec<Operator>, UserError> {
    let invalid = |text: String| UserError::new("InvalidQuery", text);
    if operators.len() as u64 > limits::QUERY_OPERATORS {
        let limit = limits::QUERY_OPERATORS;
        let text = format!("Query has too many operators ({} > {limit})", operators.len());
        return Err(invalid(text));
    }
    let parse = |operator: &OperatorJson<'_>| match (operator.filter, operator.limit) {
        (Some(filter), None) => {
            let expression = serde_json::from_str(filter.get())
                .map_err(|error| invalid(format!("Invalid filter: {error}")))?;
            Ok(Operator::Filter(Expression::from_json(&expression)?))
        }
        (None, Some(limit)) if limit >= 0.0 && limit.fract() == 0.0 => {
            Ok(Operator::Limit(limit as u64))
        }
        _ => Err(invalid("Invalid query: an operator is a filter or a whole limit".into())),
    };
    operators.iter().map(parse).collect()
}

fn required(field: Option<String>, name: &str) -> Result<String, UserError> {
    field.ok_or_else(|| {
        UserError::new("InvalidQuery", format!("Invalid query: its source has no `{name}`"))
    })
}
