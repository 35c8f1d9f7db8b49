//! Values: their JSON, their order, their keys, their limits.
//!
//! In: random values. Out: what `value.rs`, `json.rs`, `key.rs` and `schema.rs` promise.

use proptest::prelude::*;

use crate::json;
use crate::key::{self, Interval};
use crate::limits;
use crate::schema::Schema;
use crate::value::Value;

/// Scalars with the corners of each kind.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Int64),
        prop_oneof![Just(0), Just(-1), Just(127), Just(-128), Just(128), Just(-129), Just(1 << 40)]
            .prop_map(Value::Int64),
        any::<f64>().prop_map(Value::Float64),
        prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(-f64::INFINITY), Just(1.0)]
            .prop_map(Value::Float64),
        "[\u{0}-\u{ff}]{0,4}".prop_map(Value::String),
        ".{0,6}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-z ]{0,3}", inner, 0..4).prop_map(Value::Object),
        ]
    })
}

fn encoded(value: Option<&Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode_value(value, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn json_gives_back_what_it_got(value in value()) {
        let text = json::encode(&value);
        prop_assert_eq!(&json::decode(&text).unwrap(), &value);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(json::decode(&parsed.to_string()).unwrap(), value);
    }

    #[test]
    fn keys_order_like_values(a in value(), b in value()) {
        // A tail, as the creation time and the id are behind every index key.
        let tail = |value| [encoded(Some(value)), encoded(Some(&Value::Float64(1.0)))].concat();
        prop_assert_eq!(tail(&a).cmp(&tail(&b)), a.cmp(&b));
        prop_assert!(encoded(None) < encoded(Some(&a)));
        prop_assert_eq!(key::decode_key(&encoded(Some(&a))), vec![Some(a)]);
    }

    #[test]
    fn intervals_agree_with_their_keys(
        a in prop::collection::vec(0..4_u8, 0..3),
        b in prop::collection::vec(0..4_u8, 0..3),
        probe in prop::collection::vec(0..4_u8, 0..4),
    ) {
        let interval = Interval { start: a.clone().into(), end: Some(b.clone().into()) };
        prop_assert_eq!(interval.contains(&probe), a <= probe && probe < b);
        prop_assert_eq!(interval.is_empty(), b <= a);
        prop_assert!(Interval::prefix(&a).contains(&[&a[..], &probe[..]].concat()));
        prop_assert_eq!(Interval::point(&a).contains(&probe), a == probe);
        let point = Interval::point(&probe);
        prop_assert_eq!(interval.overlaps(&point), interval.contains(&probe));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}", cut in 0..60_usize) {
        let _ = json::decode(&text);
        let good = r#"{"a":[1,-2.5e3,{"$bytes":"AQ=="},"\ud83d\ude00\n",null,true]}"#;
        let _ = json::decode(good.get(..cut).unwrap_or(good));
    }
}

#[test]
fn vectors_of_the_reference() {
    let vectors = [
        (Value::Int64(1), r#"{"$integer":"AQAAAAAAAAA="}"#),
        (Value::Int64(-1), r#"{"$integer":"//////////8="}"#),
        (Value::Float64(f64::NAN), r#"{"$float":"AAAAAAAA+H8="}"#),
        (Value::Float64(-0.0), r#"{"$float":"AAAAAAAAAIA="}"#),
        (Value::Float64(f64::INFINITY), r#"{"$float":"AAAAAAAA8H8="}"#),
        (Value::Float64(f64::NEG_INFINITY), r#"{"$float":"AAAAAAAA8P8="}"#),
        (Value::Float64(1.0), "1"),
        (Value::Float64(1.5e300), "1.5e300"),
    ];
    for (value, text) in vectors {
        assert_eq!(json::encode(&value), text);
        assert_eq!(json::decode(text).unwrap(), value);
    }
    let value = Value::Array(vec![Value::Int64(7), Value::Float64(2.0), Value::Bytes(vec![1])]);
    assert_eq!(json::export(&value, json::Format::Clean), r#"["7",2,"AQ=="]"#);
    assert_eq!(json::export(&value, json::Format::Export), r#"[7,2.0,{"$bytes":"AQ=="}]"#);
}

#[test]
fn malformed_json_says_where() {
    let error = |text: &str| json::decode(text).unwrap_err().message;
    assert_eq!(error("[1,\n 2"), "expected `,` or `]` at line 2 column 3");
    assert_eq!(
        error(r#"{"$float":"AAAAAAAA8D8="}"#).split(" at ").next().unwrap(),
        "Float 1 should be encoded as a number"
    );
    for bad in ["", "01", "1.", "nul", "\"\\ud800\"", "\"\u{1}\"", "1e999", "[1]x", "{\"a\":}"] {
        assert!(json::decode(bad).is_err(), "{bad}");
    }
    for bad in [r#"{"$x":1}"#, r#"{"$integer":"AQ=="}"#, r#"{"a":{"$undefined":null}}"#] {
        assert!(json::decode(bad).is_err(), "{bad}");
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(error(&deep).starts_with("Value is too nested"));
    let patch = json::decode_patch(r#"{"a":{"$undefined":null},"b":1}"#).unwrap();
    assert_eq!((patch["a"].is_none(), patch["b"].is_some()), (true, true));
}

#[test]
fn values_are_limited() {
    let message = |value: &Value| value.check_limits().unwrap_err().message;
    let nested = |levels: u64| (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    assert!(nested(limits::VALUE_DEPTH).check_limits().is_ok());
    assert_eq!(
        message(&nested(limits::VALUE_DEPTH + 1)),
        "Value is too nested (nested 65 levels deep > maximum nesting 64)"
    );
    let items = |count: u64| Value::Array((0..count).map(|_| Value::Null).collect());
    assert!(items(limits::ARRAY_LENGTH).check_limits().is_ok());
    assert_eq!(
        message(&items(limits::ARRAY_LENGTH + 1)),
        "Array length is too long (8193 > maximum length 8192)"
    );
    let fields =
        |count: u64| Value::Object((0..count).map(|at| (format!("f{at}"), Value::Null)).collect());
    assert!(fields(limits::OBJECT_FIELDS).check_limits().is_ok());
    assert_eq!(
        message(&fields(limits::OBJECT_FIELDS + 1)),
        "Object has too many fields (1025 > maximum number 1024)"
    );
    let bytes = usize::try_from(limits::VALUE_BYTES).unwrap();
    assert!(Value::Bytes(vec![0; bytes - 2]).check_limits().is_ok());
    assert!(message(&Value::Bytes(vec![0; bytes])).starts_with("Value is too large"));
}

#[test]
fn schemas_are_limited() {
    let code = |text: &str| Schema::from_json(text).map(|_| "fine").unwrap_or_else(|e| e.code);
    let tables = |count: u64| {
        let table = |at| format!(r#"{{"tableName":"t{at}","documentType":{{"type":"any"}}}}"#);
        format!(r#"{{"tables":[{}]}}"#, (0..count).map(table).collect::<Vec<_>>().join(","))
    };
    assert_eq!(code(&tables(limits::TABLES)), "fine");
    assert_eq!(code(&tables(limits::TABLES + 1)), "TooManyTables");
    let table = |indexes: &str| {
        format!(r#"{{"tables":[{{"tableName":"t",{indexes},"documentType":{{"type":"any"}}}}]}}"#)
    };
    let list =
        |count: u64, item: fn(u64) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let indexes = |count| {
        let index = |at| format!(r#"{{"indexDescriptor":"i{at}","fields":["x"]}}"#);
        table(&format!(r#""indexes":[{}]"#, list(count, index)))
    };
    assert_eq!(code(&indexes(limits::INDEXES_PER_TABLE)), "fine");
    assert_eq!(code(&indexes(limits::INDEXES_PER_TABLE + 1)), "TooManyIndexes");
    let fields = |count| {
        let names = list(count, |at| format!("\"f{at}\""));
        table(&format!(r#""indexes":[{{"indexDescriptor":"i","fields":[{names}]}}]"#))
    };
    assert_eq!(code(&fields(limits::INDEX_FIELDS)), "fine");
    assert_eq!(code(&fields(limits::INDEX_FIELDS + 1)), "IndexTooManyFields");
    let filters = |count| {
        let names = list(count, |at| format!("\"f{at}\""));
        let index = r#"{"indexDescriptor":"i","searchField":"x","filterFields":"#;
        table(&format!(r#""searchIndexes":[{index}[{names}]}}]"#))
    };
    assert_eq!(code(&filters(limits::INDEX_FILTER_FIELDS)), "fine");
    assert_eq!(code(&filters(limits::INDEX_FILTER_FIELDS + 1)), "IndexTooManyFilterFields");
}

#[test]
fn queries_are_limited() {
    let database = super::deployed();
    let mut transaction = super::begin(&database, 1);
    let mut open = |count: u64| {
        let limit: Vec<&str> = (0..count).map(|_| r#"{"limit":1}"#).collect();
        let source = r#"{"type":"FullTableScan","tableName":"a","order":null}"#;
        let text = format!(r#"{{"source":{source},"operators":[{}]}}"#, limit.join(","));
        transaction.open_query("", &text).map(|_| ()).map_err(|e| e.message)
    };
    assert_eq!(open(limits::QUERY_OPERATORS), Ok(()));
    assert!(open(limits::QUERY_OPERATORS + 1).unwrap_err().contains("256"));
}
