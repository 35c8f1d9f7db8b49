//! Filter expressions (`convex-compat.md` section 1.11).
//!
//! In: the JSON of `q.eq(q.field("a"), 1)` and its kin. Out: a value or undefined for a document.
//! Invariant: comparisons use the total order across kinds; a missing field is undefined.

use std::cmp::Ordering;

use serde_json::Value as Json;

use crate::error::UserError;
use crate::json;
use crate::validate::Shown;
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
        match self {
            Self::Field(path) => Ok(document.field(path).cloned()),
            Self::Literal(value) => Ok(value.clone()),
            Self::Compare(how, a, b) => {
                let order = a.evaluate(document)?.cmp(&b.evaluate(document)?);
                Ok(Some(Value::Boolean(how.holds(order))))
            }
            Self::Compute(what, a, b) => {
                let (a, b) = (a.evaluate(document)?, b.evaluate(document)?);
                what.apply(a.as_ref(), b.as_ref()).map(Some)
            }
            Self::Negate(inner) => match inner.evaluate(document)? {
                Some(Value::Int64(number)) => {
                    let negated = number.checked_neg().map(Value::Int64);
                    negated.map(Some).ok_or_else(|| {
                        problem(format!(
                            "Cannot negate {number}n: the result is out of range for Int64"
                        ))
                    })
                }
                Some(Value::Float64(number)) => Ok(Some(Value::Float64(-number))),
                other => Err(problem(format!("Cannot negate {}", shown(other.as_ref())))),
            },
            Self::Not(inner) => Ok(Some(Value::Boolean(!inner.is_true(document)?))),
            Self::And(items) => {
                for item in items {
                    if !item.is_true(document)? {
                        return Ok(Some(Value::Boolean(false)));
                    }
                }
                Ok(Some(Value::Boolean(true)))
            }
            Self::Or(items) => {
                for item in items {
                    if item.is_true(document)? {
                        return Ok(Some(Value::Boolean(true)));
                    }
                }
                Ok(Some(Value::Boolean(false)))
            }
        }
    }

    /// Evaluates to a Boolean.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; a result of another kind.
    pub fn is_true(&self, document: &Value) -> Result<bool, UserError> {
        match self.evaluate(document)? {
            Some(Value::Boolean(value)) => Ok(value),
            other => {
                Err(problem(format!("Cannot use value {} as a Boolean", shown(other.as_ref()))))
            }
        }
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
        None => "undefined (type Undefined)".to_owned(),
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
}
