//! Which values match, and the texts about those that do not (`convex-compat.md` section 3.3).
//!
//! In: validators and values as JSON, and random ones. Out: checks of `validate.rs`. Invariant:
//! what does not match is explained, and nothing else is.

use super::*;
use proptest::prelude::*;

fn tables(number: TableNumber) -> Option<Arc<str>> {
    match number.0 {
        10001 => Some(Arc::from("users")),
        540 => Some(Arc::from("_storage")),
        _ => None,
    }
}

fn check(validator: &str, value: &str) -> Result<(), String> {
    let validator = Validator::from_json(validator).unwrap();
    assert_eq!(Validator::from_json(&validator.to_json()).unwrap(), validator);
    validator.check(&json::decode(value).unwrap(), &tables).map_err(|e| e.to_string())
}

const USER: &str = r#"{"type":"object","value":{"name":{"fieldType":{"type":"string"},
    "optional":false},"tags":{"fieldType":{"type":"array","value":{"type":"number"}},
    "optional":true}}}"#;

#[test]
fn texts_of_objects() {
    assert_eq!(check(USER, r#"{"name":"x"}"#), Ok(()));
    assert_eq!(
        check(USER, "{}").unwrap_err(),
        "Object is missing the required field `name`. Consider wrapping the field validator \
         in `v.optional(...)` if this is expected.\n\nObject: {}\nValidator: v.object({name: \
         v.string(), tags: v.optional(v.array(v.float64()))})"
    );
    assert_eq!(
        check(USER, r#"{"name":"x","z":1}"#).unwrap_err(),
        "Object contains extra field `z` that is not in the validator.\n\nObject: {name: \
         \"x\", z: 1.0}\nValidator: v.object({name: v.string(), tags: \
         v.optional(v.array(v.float64()))})"
    );
    assert_eq!(
        check(USER, r#"{"name":"x","tags":[1,"a"]}"#).unwrap_err(),
        "Value does not match validator.\nPath: .tags[1]\nValue: \"a\"\nValidator: v.float64()"
    );
    assert_eq!(
        check(USER, "5").unwrap_err(),
        "Value does not match validator.\n\nValue: 5.0\nValidator: v.object({name: \
         v.string(), tags: v.optional(v.array(v.float64()))})"
    );
}

#[test]
fn texts_of_ids_and_literals() {
    let id = r#"{"type":"id","tableName":"users"}"#;
    assert_eq!(check(id, "\"j57000820c20a1g7104gm2rc1m70ynr8\""), Ok(()));
    let error =
        check(r#"{"type":"id","tableName":"posts"}"#, "\"j57000820c20a1g7104gm2rc1m70ynr8\"");
    assert_eq!(
        error.unwrap_err(),
        "Found ID \"j57000820c20a1g7104gm2rc1m70ynr8\" from table `users`, which does not \
         match the table name in validator `v.id(\"posts\")`."
    );
    let error = check(id, "\"kg2000820c20a1g7104gm2rc1m70y674\"").unwrap_err();
    assert_eq!(
        error,
        "Found ID \"kg2000820c20a1g7104gm2rc1m70y674\" from a system table, which does not \
         match the table name in validator `v.id(\"users\")`."
    );
    assert!(check(id, "\"nonsense\"").is_err());
    let literal = r#"{"type":"literal","value":"on"}"#;
    assert_eq!(
        check(literal, "\"off\"").unwrap_err(),
        "`\"off\"` does not match literal validator `v.literal(\"on\")`."
    );
    let inside = |validator: &str, value: &str| {
        let validator = format!(r#"{{"type":"array","value":{validator}}}"#);
        check(&validator, &format!("[{value}]")).unwrap_err()
    };
    assert!(inside(literal, "1").ends_with("literal validator `v.literal(\"on\")`.Path: [0]"));
    let posts = r#"{"type":"id","tableName":"posts"}"#;
    let error = inside(posts, "\"j57000820c20a1g7104gm2rc1m70ynr8\"");
    assert!(error.ends_with("name in validator `v.id(\"posts\")`.Path: [0]"), "{error}");
    for (literal, shown) in [
        (r#"{"$integer":"AQAAAAAAAAA="}"#, "<bigint>"),
        (r#"{"$float":"AAAAAAAA8P8="}"#, "<number>"),
        ("2", "2.0"),
        ("true", "true"),
    ] {
        let error = check(&format!(r#"{{"type":"literal","value":{literal}}}"#), "null");
        let text = format!("`null` does not match literal validator `v.literal({shown})`.");
        assert_eq!(error.unwrap_err(), text);
    }
}

#[test]
fn unions_match_any_member_and_explain_the_tagged_one() {
    let union = r#"{"type":"union","value":[{"type":"null"},{"type":"number"}]}"#;
    assert_eq!(check(union, "null"), Ok(()));
    assert_eq!(check(union, "1"), Ok(()));
    let error = check(union, "\"x\"").unwrap_err();
    assert!(error.ends_with("Validator: v.union(v.null(), v.float64())"), "{error}");
    let member = |kind: &str, field: &str| {
        format!(
            r#"{{"type":"object","value":{{
            "kind":{{"fieldType":{{"type":"literal","value":"{kind}"}},"optional":false}},
            "{field}":{{"fieldType":{{"type":"string"}},"optional":false}}}}}}"#
        )
    };
    let tagged =
        format!(r#"{{"type":"union","value":[{},{}]}}"#, member("a", "x"), member("b", "y"));
    let error = check(&tagged, r#"{"kind":"b","y":1}"#).unwrap_err();
    assert!(error.contains("Path: .y"), "{error}");
}

#[test]
fn records() {
    let record = r#"{"type":"record","keys":{"type":"string"},
        "values":{"fieldType":{"type":"number"},"optional":false}}"#;
    assert_eq!(check(record, r#"{"a":1}"#), Ok(()));
    let error = check(record, r#"{"a":"b"}"#).unwrap_err();
    assert!(error.contains("Path: .values()"), "{error}");
    let bad = record.replace(r#"{"type":"string"}"#, r#"{"type":"number"}"#);
    assert!(Validator::from_json(&bad).unwrap_err().message.contains("string keys"));
}

#[test]
fn what_is_no_validator_is_said() {
    let error = |text: &str| Validator::from_json(text).unwrap_err().message;
    let record = |keys: &str, optional: bool| {
        error(&format!(
            r#"{{"type":"record","keys":{keys},
            "values":{{"fieldType":{{"type":"any"}},"optional":{optional}}}}}"#
        ))
    };
    let literal = r#"{"type":"literal","value":"a"}"#;
    assert!(record(literal, false).contains("Records cannot have string literal keys"));
    let union = format!(r#"{{"type":"union","value":[{{"type":"string"}},{literal}]}}"#);
    assert!(record(&union, false).contains("Records cannot have string literal keys"));
    let optional = record(r#"{"type":"string"}"#, true);
    assert!(optional.contains("Records cannot have optional values"), "{optional}");
    assert!(error(r#"{"type":"date"}"#).contains("\"date\" is no type of validator"));
    assert!(error("{}").contains("has a `type`"));
    assert!(error(r#"{"type":"id"}"#).contains("has a `tableName`"));
    let long = "x".repeat(65);
    for name in ["", "a b", "a.b", "$a", "1a", "__", "é", &long] {
        let field = r#"{"fieldType":{"type":"any"},"optional":false}"#;
        let text = format!(r#"{{"type":"object","value":{{"{name}":{field}}}}}"#);
        assert!(error(&text).contains("64 characters of A-Z"), "{name}");
    }
}

#[test]
fn paths_name_keys_values_fields_and_places() {
    let id = r#"{"type":"id","tableName":"users"}"#;
    let list = r#"{"type":"array","value":{"type":"union","value":[{"type":"boolean"}]}}"#;
    let record = format!(
        r#"{{"type":"object","value":{{"of":{{"fieldType":{{"type":"record","keys":{id},
        "values":{{"fieldType":{list},"optional":false}}}},"optional":false}}}}}}"#
    );
    let user = "j57000820c20a1g7104gm2rc1m70ynr8";
    assert_eq!(check(&record, &format!(r#"{{"of":{{"{user}":[true]}}}}"#)), Ok(()));
    assert_eq!(
        check(&record, r#"{"of":{"x":[]}}"#).unwrap_err(),
        "Value does not match validator.\nPath: .of.keys()\nValue: \"x\"\nValidator: \
         v.id(\"users\")"
    );
    assert_eq!(
        check(&record, &format!(r#"{{"of":{{"{user}":[true,null]}}}}"#)).unwrap_err(),
        "Value does not match validator.\nPath: .of.values()[1]\nValue: null\nValidator: \
         v.union(v.boolean())"
    );
}

#[test]
fn an_empty_union_takes_nothing() {
    assert_eq!(
        check(r#"{"type":"union","value":[]}"#, "1").unwrap_err().lines().last(),
        Some("Validator: v.union()")
    );
}

fn validators() -> impl Strategy<Value = Validator> {
    let literals = [Value::Float64(1.0), Value::String("a".into()), Value::Boolean(true)];
    let leaf = prop_oneof![
        proptest::sample::select(vec![
            Validator::Any,
            Validator::Null,
            Validator::Float64,
            Validator::Int64,
            Validator::Boolean,
            Validator::String,
            Validator::Bytes,
            Validator::Id("users".into()),
            Validator::Id("posts".into()),
        ]),
        proptest::sample::select(literals.to_vec()).prop_map(Validator::Literal),
    ];
    let keys = proptest::sample::select(vec![
        Validator::String,
        Validator::Id("users".into()),
        Validator::Union(vec![Validator::Id("users".into()), Validator::String]),
    ]);
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let field = (inner.clone(), any::<bool>())
            .prop_map(|(validator, optional)| Field { validator, optional });
        prop_oneof![
            inner.clone().prop_map(|element| Validator::Array(Box::new(element))),
            prop::collection::btree_map("[a-c]", field, 0..3).prop_map(Validator::Object),
            (keys.clone(), inner.clone())
                .prop_map(|(k, v)| Validator::Record(Box::new(k), Box::new(v))),
            prop::collection::vec(inner, 0..3).prop_map(Validator::Union),
        ]
    })
}

fn values() -> impl Strategy<Value = Value> {
    let id = |text: &str| Value::String(text.into());
    let leaf = proptest::sample::select(vec![
        Value::Null,
        Value::Float64(1.0),
        Value::Int64(1),
        Value::Boolean(true),
        Value::Bytes(vec![1]),
        Value::String("a".into()),
        id("j57000820c20a1g7104gm2rc1m70ynr8"),
        id("kg2000820c20a1g7104gm2rc1m70y674"),
    ]);
    leaf.prop_recursive(3, 24, 4, |inner| {
        let name = "[a-c]|j57000820c20a1g7104gm2rc1m70ynr8";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(name, inner, 0..3).prop_map(Value::Object),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn what_does_not_match_is_explained(validator in validators(), value in values()) {
        let explained = validator.explain(&value, &tables);
        prop_assert_eq!(validator.matches(&value, &tables), explained.is_ok());
        prop_assert_eq!(validator.check(&value, &tables), explained);
        let again = Validator::from_json(&validator.to_json()).unwrap();
        prop_assert_eq!(again, validator);
    }
}
