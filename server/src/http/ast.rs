//! The syntax tree as JSON, node for node and key for key as Prometheus's `parse_query` answers it.

use varve_model::Matcher;
use varve_query::promql::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, Expr, ExprKind, Extended, ValueType, VectorMatching,
    VectorSelector,
};
use varve_query::promql::functions::{self, Variadic};

use super::json;

/// Appends the tree of an expression.
pub fn push(out: &mut Vec<u8>, expr: &Expr) {
    let mut object = Object::begin(out);
    match &expr.kind {
        ExprKind::Number(value) => number(&mut object, *value),
        ExprKind::Duration(seconds) => number(&mut object, *seconds),
        ExprKind::String(text) => {
            object.text("type", "stringLiteral");
            object.text("val", text);
        }
        ExprKind::Paren(inner) => {
            object.text("type", "parenExpr");
            object.expr("expr", Some(inner));
        }
        ExprKind::Unary { negative, expr } => {
            object.text("type", "unaryExpr");
            object.text("op", if *negative { "-" } else { "+" });
            object.expr("expr", Some(expr));
        }
        ExprKind::VectorSelector(vector) => {
            object.text("type", "vectorSelector");
            selector(&mut object, vector);
        }
        ExprKind::MatrixSelector { selector: vector, range } => {
            object.text("type", "matrixSelector");
            object.integer("range", fixed(Some(range)));
            selector(&mut object, vector);
        }
        ExprKind::Subquery { expr, range, step, offset, at } => {
            object.text("type", "subquery");
            object.expr("expr", Some(expr));
            object.integer("range", fixed(Some(range)));
            object.integer("offset", fixed(offset.as_ref()));
            object.integer("step", fixed(step.as_ref()));
            object.at(*at);
            object.flag("alignEvalTime", false);
        }
        ExprKind::Call { function, args } => call(&mut object, function, args),
        ExprKind::Aggregate(aggregate) => aggregation(&mut object, aggregate),
        ExprKind::Binary(binary) => operation(&mut object, binary),
    }
    object.end();
}

fn number(object: &mut Object<'_>, value: f64) {
    object.text("type", "numberLiteral");
    let mut text = Vec::new();
    json::push_plain_float(&mut text, value);
    object.text("val", &String::from_utf8_lossy(&text));
}

fn selector(object: &mut Object<'_>, vector: &VectorSelector) {
    object.text("name", vector.name.as_deref().unwrap_or_default());
    object.integer("offset", fixed(vector.offset.as_ref()));
    object.matchers("matchers", &vector.matchers);
    object.at(vector.at);
    object.flag("anchored", vector.extended == Some(Extended::Anchored));
    object.flag("smoothed", vector.extended == Some(Extended::Smoothed));
}

fn call(object: &mut Object<'_>, name: &str, args: &[Expr]) {
    object.text("type", "call");
    let signature = functions::find(name);
    object.nested("func", |func| {
        func.text("name", name);
        func.list("argTypes", signature.map(|s| s.args).unwrap_or_default(), |out, kind| {
            json::push_string(out, type_word(*kind))
        });
        func.integer(
            "variadic",
            match signature.map(|s| s.variadic) {
                None | Some(Variadic::No) => 0,
                Some(Variadic::UpTo(count)) => i64::try_from(count).unwrap_or(i64::MAX),
                Some(Variadic::Any) => -1,
            },
        );
        func.text("returnType", signature.map(|s| type_word(s.returns)).unwrap_or_default());
    });
    object.list("args", args, push);
}

fn aggregation(object: &mut Object<'_>, aggregate: &Aggregate) {
    object.text("type", "aggregation");
    object.text("op", aggregate.op.as_str());
    object.expr("expr", Some(&aggregate.expr));
    object.expr("param", aggregate.param.as_deref());
    object.list("grouping", &aggregate.grouping, |out, label| json::push_string(out, label));
    object.flag("without", aggregate.without);
}

fn operation(object: &mut Object<'_>, binary: &Binary) {
    object.text("type", "binaryExpr");
    object.text("op", binary.op.as_str());
    object.expr("lhs", Some(&binary.lhs));
    object.expr("rhs", Some(&binary.rhs));
    match &binary.matching {
        None => object.null("matching"),
        Some(matching) => object.nested("matching", |inner| vector_matching(inner, matching)),
    }
    object.flag("bool", binary.returns_bool);
}

fn vector_matching(object: &mut Object<'_>, matching: &VectorMatching) {
    object.text(
        "card",
        match matching.cardinality {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        },
    );
    object.list("labels", &matching.labels, |out, label| json::push_string(out, label));
    object.flag("on", matching.on);
    object.list("include", &matching.include, |out, label| json::push_string(out, label));
    object.nested("fillValues", |fill| {
        for (key, value) in [("lhs", matching.fill_left), ("rhs", matching.fill_right)] {
            match value.filter(|value| value.is_finite()) {
                Some(value) => json::push_float(fill.key(key), value),
                None => fill.null(key),
            }
        }
    });
}

/// The words of Prometheus's value types in JSON.
fn type_word(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

/// Milliseconds; 0 for what is absent or only known when the query runs.
fn fixed(duration: Option<&DurationExpr>) -> i64 {
    match duration {
        Some(DurationExpr::Fixed(ms)) => *ms,
        Some(DurationExpr::Computed(_)) | None => 0,
    }
}

/// One JSON object being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, empty: true }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        json::push_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, key: &str, text: &str) {
        json::push_string(self.key(key), text);
    }

    fn integer(&mut self, key: &str, number: i64) {
        self.key(key).extend_from_slice(number.to_string().as_bytes());
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.key(key).extend_from_slice(if flag { b"true" } else { b"false" });
    }

    fn null(&mut self, key: &str) {
        self.key(key).extend_from_slice(b"null");
    }

    fn expr(&mut self, key: &str, expr: Option<&Expr>) {
        match expr {
            Some(expr) => push(self.key(key), expr),
            None => self.null(key),
        }
    }

    fn at(&mut self, at: Option<At>) {
        match at {
            Some(At::Time(time)) => self.integer("timestamp", time),
            _ => self.null("timestamp"),
        }
        match at {
            Some(At::Start) => self.text("startOrEnd", "start"),
            Some(At::End) => self.text("startOrEnd", "end"),
            _ => self.null("startOrEnd"),
        }
    }

    fn matchers(&mut self, key: &str, matchers: &[Matcher]) {
        self.list(key, matchers, |out, matcher| {
            let mut object = Object::begin(out);
            object.text("name", &matcher.name);
            object.text("value", &matcher.value);
            object.text("type", matcher.op.as_str());
            object.end();
        });
    }

    fn list<T>(&mut self, key: &str, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
        let out = self.key(key);
        out.push(b'[');
        for (i, one) in items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            item(out, one);
        }
        out.push(b']');
    }

    fn nested(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::begin(self.key(key));
        fill(&mut object);
        object.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_query::promql::{ParseOptions, parse};

    #[track_caller]
    fn check(query: &str, expected: &str) {
        let mut out = Vec::new();
        push(&mut out, &parse(query, &ParseOptions::default()).unwrap());
        let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_node_has_the_keys_of_prometheus() {
        check("1.5e3", r#"{"type":"numberLiteral","val":"1500"}"#);
        check(
            r#"-a{b=~"c"} @ end() offset 5m"#,
            r#"{"type":"unaryExpr","op":"-","expr":{"type":"vectorSelector","name":"a","offset":300000,"matchers":[
                {"name":"b","value":"c","type":"=~"},{"name":"__name__","value":"a","type":"="}],
                "timestamp":null,"startOrEnd":"end","anchored":false,"smoothed":false}}"#,
        );
        check(
            "sum by (x) (rate(a[5m] @ 1.5))",
            r#"{"type":"aggregation","op":"sum","param":null,"grouping":["x"],"without":false,"expr":{"type":"call",
                "func":{"name":"rate","argTypes":["matrix"],"variadic":0,"returnType":"vector"},"args":[
                {"type":"matrixSelector","name":"a","range":300000,"offset":0,"matchers":[
                {"name":"__name__","value":"a","type":"="}],"timestamp":1500,"startOrEnd":null,"anchored":false,"smoothed":false}]}}"#,
        );
        check(
            "1 > bool 2",
            r#"{"type":"binaryExpr","op":">","bool":true,"matching":null,
                "lhs":{"type":"numberLiteral","val":"1"},"rhs":{"type":"numberLiteral","val":"2"}}"#,
        );
    }
}
