//! Filter expressions (`convex-compat.md` section 1.11).
//!
//! In: the JSON of `q.eq(q.field("a"), 1)` and its kin. Out: a value or undefined for a document.
//! Invariant: comparisons use the total order across kinds; a missing field is undefined.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value as Json;

use crate::error::UserError;
use crate::json;
use crate::shown::Shown;
use crate::value::Value;

/// A filter expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// `q.field("a.b")`
    Field(String),
    /// A constant; `None` is undefined.
    Literal(Option<Value>),
    /// `q.eq` to `q.gte`
    Compare(Comparison, Box<Self>, Box<Self>),
    /// `q.add` to `q.mod`
    Compute(Arithmetic, Box<Self>, Box<Self>),
    /// `q.neg`
    Negate(Box<Self>),
    /// `q.not`
    Not(Box<Self>),
    /// `q.and`
    And(Vec<Self>),
    /// `q.or`
    Or(Vec<Self>),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the six comparisons")]
pub enum Comparison {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

/// What is computed of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the five operations")]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is no expression.
    pub fn from_json(json: &Json) -> Result<Self, UserError> {
        let invalid = || UserError::new("InvalidExpression", format!("Invalid filter: {json}"));
        let object = json.as_object().filter(|object| object.len() == 1).ok_or_else(invalid)?;
        let (operator, operand) = object.iter().next().ok_or_else(invalid)?;
        let pair = || match operand.as_array().map(Vec::as_slice) {
            Some([a, b]) => Ok((Box::new(Self::from_json(a)?), Box::new(Self::from_json(b)?))),
            _ => Err(invalid()),
        };
        let list = || {
            let items = operand.as_array().ok_or_else(invalid)?;
            items.iter().map(Self::from_json).collect::<Result<Vec<_>, _>>()
        };
        let compare = |how| pair().map(|(a, b)| Self::Compare(how, a, b));
        let compute = |what| pair().map(|(a, b)| Self::Compute(what, a, b));
        match operator.as_str() {
            "$field" => Ok(Self::Field(operand.as_str().ok_or_else(invalid)?.to_owned())),
            "$literal" => Ok(Self::Literal(json::decode_optional(&operand.to_string())?)),
            "$eq" => compare(Comparison::Eq),
            "$neq" => compare(Comparison::Neq),
            "$lt" => compare(Comparison::Lt),
            "$lte" => compare(Comparison::Lte),
            "$gt" => compare(Comparison::Gt),
            "$gte" => compare(Comparison::Gte),
            "$add" => compute(Arithmetic::Add),
            "$sub" => compute(Arithmetic::Sub),
            "$mul" => compute(Arithmetic::Mul),
            "$div" => compute(Arithmetic::Div),
            "$mod" => compute(Arithmetic::Mod),
            "$neg" => Ok(Self::Negate(Box::new(Self::from_json(operand)?))),
            "$not" => Ok(Self::Not(Box::new(Self::from_json(operand)?))),
            "$and" => list().map(Self::And),
            "$or" => list().map(Self::Or),
            _ => Err(invalid()),
        }
    }

    /// Evaluates for a document; `None` is undefined.
    ///
    /// # Errors
    /// Arithmetic between kinds, overflow, division by zero, a Boolean that is none.
    pub fn evaluate(&self, document: &Value) -> Result<Option<Value>, UserError> {
        Ok(self.resolve(document)?.map(Cow::into_owned))
    }

    /// Fields and constants are borrowed: a scan compares them for every document it reads.
    fn resolve<'a>(&'a self, document: &'a Value) -> Result<Option<Cow<'a, Value>>, UserError> {
        let computed = match self {
            Self::Field(path) => return Ok(document.field(path).map(Cow::Borrowed)),
            Self::Literal(value) => return Ok(value.as_ref().map(Cow::Borrowed)),
            Self::Compare(how, a, b) => {
                let order = a.resolve(document)?.cmp(&b.resolve(document)?);
                Value::Boolean(how.holds(order))
            }
            Self::Compute(what, a, b) => {
                let (a, b) = (a.resolve(document)?, b.resolve(document)?);
                what.apply(a.as_deref(), b.as_deref())?
            }
            Self::Negate(inner) => negate(inner.resolve(document)?.as_deref())?,
            Self::Not(inner) => Value::Boolean(!inner.is_true(document)?),
            Self::And(items) => Value::Boolean(all(items, document, true)?),
            Self::Or(items) => Value::Boolean(!all(items, document, false)?),
        };
        Ok(Some(Cow::Owned(computed)))
    }

    /// Evaluates to a Boolean.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; a result of another kind.
    pub fn is_true(&self, document: &Value) -> Result<bool, UserError> {
        match self.resolve(document)?.as_deref() {
            Some(Value::Boolean(value)) => Ok(*value),
            other => Err(problem(format!("Cannot use value {} as a Boolean", shown(other)))),
        }
    }
}

/// Whether every item evaluates to `expected`; those after the first that does not are not looked
/// at.
fn all(items: &[Expression], document: &Value, expected: bool) -> Result<bool, UserError> {
    for item in items {
        if item.is_true(document)? != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

fn negate(value: Option<&Value>) -> Result<Value, UserError> {
    match value {
        Some(Value::Int64(number)) => number.checked_neg().map(Value::Int64).ok_or_else(|| {
            problem(format!("Cannot negate {number}n: the result is out of range for Int64"))
        }),
        Some(Value::Float64(number)) => Ok(Value::Float64(-number)),
        other => Err(problem(format!("Cannot negate {}", shown(other)))),
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Neq => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Lte => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Gte => order.is_ge(),
        }
    }
}

impl Arithmetic {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "subtract",
            Self::Mul => "multiply",
            Self::Div => "divide",
            Self::Mod => "mod",
        }
    }

    fn apply(self, a: Option<&Value>, b: Option<&Value>) -> Result<Value, UserError> {
        match (a, b) {
            (Some(Value::Float64(a)), Some(Value::Float64(b))) => Ok(Value::Float64(match self {
                Self::Add => a + b,
                Self::Sub => a - b,
                Self::Mul => a * b,
                Self::Div => a / b,
                Self::Mod => a % b,
            })),
            (Some(Value::Int64(a)), Some(Value::Int64(b))) => {
                if *b == 0 && matches!(self, Self::Div | Self::Mod) {
                    return Err(problem(format!("Cannot {} {a}n by zero", self.name())));
                }
                let result = match self {
                    Self::Add => a.checked_add(*b),
                    Self::Sub => a.checked_sub(*b),
                    Self::Mul => a.checked_mul(*b),
                    Self::Div => a.checked_div(*b),
                    Self::Mod => a.checked_rem(*b),
                };
                result.map(Value::Int64).ok_or_else(|| {
                    let name = self.name();
                    problem(format!(
                        "Cannot {name} {a}n and {b}n: the result is out of range for Int64"
                    ))
                })
            }
            _ => {
                let (name, a, b) = (self.name(), shown(a), shown(b));
                Err(problem(format!("Cannot {name} {a} and {b}")))
            }
        }
    }
}

fn problem(message: String) -> UserError {
    UserError::new("InvalidExpression", message)
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(value) => format!("{} (type {})", Shown(value), value.kind_name()),
        None => "undefined (type undefined)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(expression: &str, document: &str) -> Result<bool, String> {
        let expression = Expression::from_json(&serde_json::from_str(expression).unwrap()).unwrap();
        expression.is_true(&json::decode(document).unwrap()).map_err(|e| e.message)
    }

    #[test]
    fn undefined_is_below_everything() {
        let lt = r#"{"$lt":[{"$field":"a.b"},{"$literal":null}]}"#;
        assert_eq!(evaluate(lt, "{}"), Ok(true));
        assert_eq!(evaluate(lt, r#"{"a":{"b":null}}"#), Ok(false));
        let eq = r#"{"$eq":[{"$field":"a"},{"$literal":{"$undefined":null}}]}"#;
        assert_eq!(evaluate(eq, "{}"), Ok(true));
    }

    #[test]
    fn arithmetic_needs_one_kind() {
        let sum = r#"{"$eq":[{"$add":[{"$field":"a"},{"$literal":2}]},{"$literal":3}]}"#;
        assert_eq!(evaluate(sum, r#"{"a":1}"#), Ok(true));
        assert_eq!(
            evaluate(sum, r#"{"a":"x"}"#).unwrap_err(),
            "Cannot add \"x\" (type String) and 2.0 (type Float64)"
        );
        let half = r#"{"$div":[{"$literal":{"$integer":"AQAAAAAAAAA="}},
            {"$literal":{"$integer":"AAAAAAAAAAA="}}]}"#;
        assert_eq!(evaluate(half, "{}").unwrap_err(), "Cannot divide 1n by zero");
        assert_eq!(
            evaluate(r#"{"$literal":1}"#, "{}").unwrap_err(),
            "Cannot use value 1.0 (type Float64) as a Boolean"
        );
    }

    #[test]
    fn each_comparison_holds_where_it_should() {
        for (name, below, equal, above) in [
            ("$eq", false, true, false),
            ("$neq", true, false, true),
            ("$lt", true, false, false),
            ("$lte", true, true, false),
            ("$gt", false, false, true),
            ("$gte", false, true, true),
        ] {
            let text = format!(r#"{{"{name}":[{{"$field":"a"}},{{"$literal":2}}]}}"#);
            let at = |a: &str| evaluate(&text, &format!(r#"{{"a":{a}}}"#));
            assert_eq!((at("1"), at("2"), at("3")), (Ok(below), Ok(equal), Ok(above)), "{name}");
            // An int64 is below every float64, whatever their numbers.
            assert_eq!(at(r#"{"$integer":"//////////8="}"#), Ok(below), "{name}");
            assert_eq!(at("\"1\""), Ok(above), "{name}");
        }
    }

    #[test]
    fn integers_stay_integers_and_in_range() {
        let integer = |number: i64| json::encode(&Value::Int64(number));
        let compute = |name: &str, a: i64, b: i64| {
            let (a, b) = (integer(a), integer(b));
            let text = format!(r#"{{"{name}":[{{"$literal":{a}}},{{"$literal":{b}}}]}}"#);
            let expression = Expression::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            expression.evaluate(&Value::Null).map_err(|e| e.message)
        };
        for (name, expected) in [("$add", 9), ("$sub", 5), ("$mul", 14), ("$div", 3), ("$mod", 1)] {
            assert_eq!(compute(name, 7, 2), Ok(Some(Value::Int64(expected))), "{name}");
        }
        let out = |name: &str, a, b| compute(name, a, b).unwrap_err();
        for (name, a, b) in [
            ("$add", i64::MAX, 1),
            ("$sub", i64::MIN, 1),
            ("$mul", i64::MAX, 2),
            ("$div", i64::MIN, -1),
            ("$mod", i64::MIN, -1),
        ] {
            assert!(out(name, a, b).ends_with("the result is out of range for Int64"), "{name}");
        }
        assert_eq!(out("$mod", 5, 0), "Cannot mod 5n by zero");
        let negate = |literal: &str| {
            let text =
                format!(r#"{{"$eq":[{{"$neg":{{"$literal":{literal}}}}},{{"$field":"a"}}]}}"#);
            evaluate(&text, r#"{"a":-2}"#)
        };
        assert_eq!(negate("2"), Ok(true));
        assert_eq!(negate("\"x\""), Err("Cannot negate \"x\" (type String)".into()));
        let lowest = negate(&integer(i64::MIN)).unwrap_err();
        assert!(lowest.ends_with("out of range for Int64"), "{lowest}");
    }

    #[test]
    fn logic_stops_at_the_first_answer() {
        let literal = |value: bool| format!(r#"{{"$literal":{value}}}"#);
        let (yes, no, bad) = (literal(true), literal(false), r#"{"$field":"missing"}"#);
        let logic = |name: &str, a: &str, b: &str| {
            evaluate(&format!(r#"{{"{name}":[{a},{b}]}}"#), r#"{"x":1}"#)
        };
        for (name, a, b, expected) in [
            ("$and", &yes, &yes, true),
            ("$and", &yes, &no, false),
            ("$or", &no, &no, false),
            ("$or", &no, &yes, true),
        ] {
            assert_eq!(logic(name, a, b), Ok(expected), "{name}");
        }
        assert_eq!(logic("$and", &no, bad), Ok(false));
        assert_eq!(logic("$or", &yes, bad), Ok(true));
        let error = "Cannot use value undefined (type undefined) as a Boolean";
        assert_eq!(logic("$and", &yes, bad), Err(error.into()));
        assert_eq!(logic("$or", &no, bad), Err(error.into()));
        assert_eq!(evaluate(r#"{"$and":[]}"#, "{}"), Ok(true));
        assert_eq!(evaluate(r#"{"$or":[]}"#, "{}"), Ok(false));
        assert_eq!(evaluate(&format!(r#"{{"$not":{yes}}}"#), "{}"), Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in [
            "1",
            "{}",
            r#"{"$eq":[{"$literal":1}]}"#,
            r#"{"$pow":[{"$literal":1},{"$literal":1}]}"#,
            r#"{"$field":1}"#,
            r#"{"$and":{"$literal":true}}"#,
            r#"{"$literal":1,"$field":"a"}"#,
        ] {
            let error = Expression::from_json(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert_eq!(error.code, "InvalidExpression", "{text}");
        }
    }
}
