//! Index ranges: every rule and every text of `convex-compat.md` section 1.11.
//!
//! In: queries. Out: the documents in the range, or the error in Convex's words.

use super::*;
use crate::transaction::GetArgs;

fn refused(query: &str) -> String {
    collect(&mut begin(&deployed(), 1), query).unwrap_err().message
}

fn xs(transaction: &mut Transaction, index: &str, range: &[String]) -> Vec<String> {
    let query = index_query(index, &range.join(","), "asc", "");
    let found = collect(transaction, &query).unwrap();
    found.iter().map(|document| field(document, "x")).collect()
}

#[test]
fn fields_out_of_order_are_refused_with_convex_text() {
    let query = index_query("a.by_xy", &bound("Eq", "y", "1"), "asc", "");
    assert_eq!(
        refused(&query),
        "Tried to query index a.by_xy but the query didn't use the index fields in order.\n\
         Index fields: [\"x\", \"y\", \"_creationTime\"]\nQuery fields: [\"y\"]\n\
         First incorrect field: \"y\"\n\
         For more information see https://docs.convex.dev/using/indexes."
    );
    let range = [bound("Gt", "y", "1"), bound("Gt", "x", "1")].join(",");
    assert!(refused(&index_query("a.by_xy", &range, "asc", "")).contains("both \"y\" and \"x\""));
    let skipped = [bound("Eq", "x", "1"), bound("Gt", "_creationTime", "1")].join(",");
    let text = refused(&index_query("a.by_xy", &skipped, "asc", ""));
    assert!(text.contains("First incorrect field: \"_creationTime\""), "{text}");
    let unknown = refused(&index_query("a.by_x", &bound("Eq", "z", "1"), "asc", ""));
    assert!(unknown.contains("comparison with \"z\", but a.by_x with fields"), "{unknown}");
}

#[test]
fn a_bound_given_twice_is_refused_with_convex_text() {
    let twice = |first: &str, second: &str| {
        let range = [bound(first, "x", "1"), bound(second, "x", "2")].join(",");
        refused(&index_query("a.by_x", &range, "asc", ""))
    };
    let text = |kind: &str, operator: &str| {
        format!("Already defined {kind} bound in index range. Can't add x {operator} 2.")
    };
    assert_eq!(twice("Eq", "Eq"), text("equality", "=="));
    assert_eq!(twice("Eq", "Lt"), text("equality", "<"));
    assert_eq!(twice("Gt", "Gte"), text("lower", ">="));
    assert_eq!(twice("Lte", "Lt"), text("upper", "<"));
    assert_eq!(twice("Gt", "Eq"), text("inequality", "=="));
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(refused(&index_query("a.by_z", "", "asc", "")), "Index a.by_z not found.");
    assert_eq!(refused(&index_query("none.by_x", "", "asc", "")), "Index none.by_x not found.");
    let search = r#"{"source":{"type":"Search","indexName":"a.s","filters":[]},"operators":[]}"#;
    assert!(refused(search).starts_with("Full text search (`withSearchIndex`) is not supported"));
    let mut transaction = begin(&deployed(), 1);
    assert!(collect(&mut transaction, &full_scan("none")).unwrap().is_empty());
    let by_id = index_query("none.by_id", "", "asc", "");
    assert!(collect(&mut transaction, &by_id).unwrap().is_empty());
    assert_eq!(transaction.next(77).unwrap_err().message, "in-progress query not found");
}

#[test]
fn every_kind_of_value_has_its_place() {
    let database = deployed();
    let values = [
        "undefined",
        "null",
        r#"{"$integer":"AQAAAAAAAAA="}"#,
        "-1.5",
        "2",
        "false",
        "true",
        r#""""#,
        r#""a""#,
        r#""a\u0000""#,
        r#""a\u0000b""#,
        r#""ab""#,
        r#"{"$bytes":"AA=="}"#,
        "[]",
        "[1]",
        "{}",
        r#"{"k":1}"#,
    ];
    mutate(&database, 1, |tx| {
        for text in values.iter().rev() {
            let document = match *text {
                "undefined" => "{}".to_owned(),
                text => format!(r#"{{"x":{text}}}"#),
            };
            tx.insert("", "a", value(&document))?;
        }
        Ok(())
    });
    let mut transaction = begin(&database, 2);
    assert_eq!(xs(&mut transaction, "a.by_x", &[]).len(), values.len());
    for (at, text) in values.iter().enumerate() {
        let literal = if at == 0 { r#"{"$undefined":null}"# } else { text };
        let said = |range: &[String], transaction: &mut Transaction| {
            xs(transaction, "a.by_x", range).len()
        };
        let find = |kind: &str| [bound(kind, "x", literal)];
        assert_eq!(said(&find("Eq"), &mut transaction), 1, "{text}");
        assert_eq!(said(&find("Lt"), &mut transaction), at, "{text}");
        assert_eq!(said(&find("Lte"), &mut transaction), at + 1, "{text}");
        assert_eq!(said(&find("Gt"), &mut transaction), values.len() - at - 1, "{text}");
        assert_eq!(said(&find("Gte"), &mut transaction), values.len() - at, "{text}");
    }
}

#[test]
fn a_filter_sees_every_document_and_a_limit_stops_the_scan() {
    let database = deployed();
    mutate(&database, 1, |tx| {
        for x in 0..10 {
            tx.insert("", "a", value(&format!(r#"{{"x":{x}}}"#)))?;
        }
        Ok(())
    });
    let odd = r#"{"filter":{"$eq":[{"$mod":[{"$field":"x"},{"$literal":2}]},{"$literal":1}]}}"#;
    let mut transaction = begin(&database, 2);
    let query = index_query("a.by_x", "", "desc", &format!(r#"{odd},{{"limit":2}}"#));
    let found = collect(&mut transaction, &query).unwrap();
    let found: Vec<_> = found.iter().map(|document| field(document, "x")).collect();
    assert_eq!(found, ["9", "7"]);
    assert_eq!(transaction.usage().documents_read, 3, "9, 8 and 7, and no further");
    assert_eq!(transaction.usage().ranges, 1);
    let query = index_query("a.by_x", "", "asc", &format!(r#"{{"limit":3}},{odd}"#));
    assert_eq!(collect(&mut transaction, &query).unwrap().len(), 1, "of 0, 1 and 2");
}

#[test]
fn the_id_is_the_last_field_of_every_index() {
    let database = deployed();
    let (ids, _) = mutate(&database, 1, |tx| {
        let insert = |x: u8| Ok(tx.insert("", "a", value(&format!(r#"{{"x":{x}}}"#)))?.encode());
        [1, 2, 3].into_iter().map(insert).collect::<Result<Vec<_>, _>>()
    });
    let mut transaction = begin(&database, 2);
    let second =
        collect(&mut transaction, &index_query("a.by_x", &bound("Eq", "x", "2"), "asc", ""));
    let time = bound("Eq", "_creationTime", &field(&second.unwrap()[0], "_creationTime"));
    let id = |kind: &str, at: usize| bound(kind, "_id", &format!("\"{}\"", ids[at]));
    let mut found = |index: &str, range: &[String]| xs(&mut transaction, index, range);
    for (kind, expected) in [("Eq", 1), ("Gte", 1), ("Lte", 1), ("Gt", 0), ("Lt", 0)] {
        let by_time = found("a.by_creation_time", &[time.clone(), id(kind, 1)]);
        assert_eq!(by_time.len(), expected, "{kind}");
        let by_x = found("a.by_x", &[bound("Eq", "x", "2"), time.clone(), id(kind, 1)]);
        assert_eq!(by_x.len(), expected, "{kind}");
    }
    assert!(found("a.by_creation_time", &[time.clone(), id("Eq", 0)]).is_empty());
    let skipped = [bound("Eq", "x", "2"), id("Gt", 1)].join(",");
    let text = refused(&index_query("a.by_x", &skipped, "asc", ""));
    assert!(text.contains("First incorrect field: \"_id\""), "{text}");
}

#[test]
fn by_id_ranges_follow_the_order_of_ids() {
    let database = deployed();
    let (mut ids, _) = mutate(&database, 1, |tx| {
        (0..5).map(|_| Ok(tx.insert("", "a", value("{}"))?.encode())).collect::<Result<Vec<_>, _>>()
    });
    ids.sort();
    let mut transaction = begin(&database, 2);
    let mut find = |range: &[String]| {
        let query = index_query("a.by_id", &range.join(","), "asc", "");
        let found = collect(&mut transaction, &query)?;
        Ok::<_, UserError>(found.iter().map(|found| found.id.encode()).collect::<Vec<_>>())
    };
    let id = |at: usize| format!("{:?}", ids[at]);
    assert_eq!(find(&[]).unwrap(), ids);
    assert_eq!(find(&[bound("Eq", "_id", &id(2))]).unwrap(), ids[2..3]);
    let within = [bound("Gt", "_id", &id(0)), bound("Lte", "_id", &id(3))];
    assert_eq!(find(&within).unwrap(), ids[1..4]);
    assert!(find(&[bound("Eq", "_id", r#""nothing""#)]).unwrap().is_empty());
}

#[test]
fn ranges_over_ids_are_ranges_over_strings() {
    let database = deployed();
    let (others, _) = mutate(&database, 1, |tx| {
        ["a", "b", "b"].into_iter().map(|t| Ok(tx.insert("", t, value("{}"))?.encode())).collect()
    });
    let others: Vec<String> = others;
    let (mut documents, _) = mutate(&database, 2, |tx| {
        for _ in 0..5 {
            tx.insert("", "a", value(r#"{"x":1}"#))?;
        }
        collect(tx, &index_query("a.by_id", "", "asc", ""))
    });
    let mut literals: Vec<String> = ["", "j", "jz", "zz", "J", "~", "é"].map(json_text).into();
    literals.extend(others.iter().map(|id| json_text(id)));
    for document in &documents {
        let id = document.id.encode();
        let changed = format!("{}{}", &id[..31], if id.ends_with('0') { '1' } else { '0' });
        let near = [&id[..1], &id[..5], &id[..31], &id, &changed, &format!("{id}0"), &id[1..]];
        literals.extend(near.map(json_text));
    }
    literals.extend(["null", "5", "true", r#"{"$bytes":"AA=="}"#, "[]", "{}"].map(String::from));
    literals.push(r#"{"$undefined":null}"#.into());
    documents.sort_by_key(|document| document.id.encode());
    let mut transaction = begin(&database, 3);
    for literal in &literals {
        for kind in ["Eq", "Gt", "Gte", "Lt", "Lte"] {
            // A filter says what the comparison means, whatever the index is.
            let filter = format!(
                r#"{{"filter":{{"${}":[{{"$field":"_id"}},{{"$literal":{literal}}}]}}}}"#,
                kind.to_lowercase()
            );
            let mut same = |index: &str, before: &[String]| {
                let range = [before, &[bound(kind, "_id", literal)]].concat().join(",");
                let ranged = index_query(index, &range, "asc", "");
                let filtered = index_query(index, &before.join(","), "asc", &filter);
                let mut ids = |query: &str| {
                    let found = collect(&mut transaction, query).unwrap();
                    found.iter().map(|found| found.id.encode()).collect::<Vec<_>>()
                };
                assert_eq!(ids(&ranged), ids(&filtered), "{index} {kind} {literal}");
            };
            same("a.by_id", &[]);
            let time = bound("Eq", "_creationTime", &field(&documents[2], "_creationTime"));
            same("a.by_creation_time", std::slice::from_ref(&time));
            same("a.by_x", &[bound("Eq", "x", "1"), time]);
        }
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[test]
fn ids_of_other_tables_and_systems_are_told_apart() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", value("{}")));
    let id = id.encode();
    let mut transaction = begin(&database, 2);
    let mut get = |id: &str, table: Option<&str>, is_system: bool| {
        let found = transaction.get("", GetArgs { id, table, is_system });
        found.map(|found| found.is_some()).map_err(|error| error.message)
    };
    assert_eq!(get(&id, Some("a"), false), Ok(true));
    assert_eq!(
        get(&id, Some("b"), false).unwrap_err(),
        "Invalid argument `id` for `db.get`: expected to be an Id<\"b\">, got Id<\"a\"> instead."
    );
    let system = "User tables cannot be accessed with db.system.";
    assert_eq!(get(&id, None, true).unwrap_err(), system);
    let stored = "kg2000820c20a1g7104gm2rc1m70y674";
    let user = "System tables can only be accessed with db.system.";
    assert_eq!(get(stored, None, false).unwrap_err(), user);
    assert_eq!(get(stored, None, true), Ok(false));
    assert_eq!(get("zzzzzzrf000g40r40m30e209185gr38e1y1nj", None, false), Ok(false));
    assert!(get("hello", None, false).unwrap_err().contains("Unable to decode ID"));
    assert_eq!(transaction.normalize_id("", "a", &id), Some(id.clone()));
    assert_eq!(transaction.normalize_id("", "b", &id), None);
    assert_eq!(transaction.normalize_id("", "_storage", stored).as_deref(), Some(stored));
    assert_eq!(transaction.count("", "_scheduled_functions").unwrap(), 0);
    let text = transaction.remove("", stored, None).unwrap_err().message;
    assert_eq!(text, "_storage is a read-only table");
}
