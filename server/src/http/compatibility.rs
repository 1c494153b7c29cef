//! The tables of docs/compatibility.md, written from the routes, the catalog and the tables of the language. A test
//! keeps the document equal to this; `UPDATE_DOCS=1` rewrites what stands between the two marks.

use varve_query::promql::ast::{AggregateOp, BinaryOp, ValueType};
use varve_query::promql::functions::{self, Function, Variadic};

use super::catalog::{self, ENDPOINTS, Group, Kind, Origin, Parameter};
use super::{ROUTES, Route};

/// Where the written part begins and ends.
pub const MARKS: (&str, &str) = (
    "<!-- From here to the end mark written by `UPDATE_DOCS=1 cargo test -p varve-server --lib compatibility`. -->",
    "<!-- End of what is written. -->",
);

/// What goes with selectors and operators, and the flag that Prometheus has for it.
const MODIFIERS: &[(&str, &str, &str)] = &[
    ("`offset`", "looks back, or ahead when negative", ""),
    ("`@ <time>`, `@ start()`, `@ end()`", "looks at a fixed time", ""),
    ("`[5m]`", "range", ""),
    ("`[1h:1m]`", "subquery", ""),
    ("`anchored`", "range with the sample before it", "promql-extended-range-selectors"),
    ("`smoothed`", "range with interpolated ends", "promql-extended-range-selectors"),
    ("`bool`", "comparisons answer 0 or 1", ""),
    ("`on`, `ignoring`", "which labels match", ""),
    ("`group_left`, `group_right`", "one to many", ""),
    ("`fill`, `fill_left`, `fill_right`", "a value where a side has none", "promql-binop-fill-modifiers"),
    ("`by`, `without`", "which labels group", ""),
    ("`{\"name\", \"label\"=\"x\"}`", "names of any characters, in quotes", ""),
    ("`[5m * 2]`, `offset step()`", "arithmetic of durations", ""),
];

/// The written part, without its marks.
pub fn markdown() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        out.push_str(&format!(
            "\n## {}\n\n| endpoint | methods | parameters | how it differs |\n|---|---|---|---|\n",
            group.as_str()
        ));
        for route in ROUTES {
            let Some(endpoint) = catalog::find(route.path).filter(|endpoint| endpoint.group == group) else { continue };
            let names: Vec<String> = endpoint.parameters.iter().map(|p| format!("`{}`", p.name)).collect();
            let differs = match endpoint.origin {
                Origin::Prometheus("") => "same".to_owned(),
                Origin::Prometheus(how) => how.to_owned(),
                Origin::Ours(purpose) => format!("not in Prometheus: {purpose}"),
            };
            out.push_str(&format!("| `{}` | {} | {} | {differs} |\n", route.path, methods(route), names.join(", ")));
        }
    }
    push_parameters(&mut out);
    push_language(&mut out);
    out
}

fn methods(route: &Route) -> String {
    route.methods.join(", ")
}

/// Every parameter, with the endpoints that mean the same by it.
fn push_parameters(out: &mut String) {
    out.push_str("\n## Parameters\n\n| parameter | value | meaning | of |\n|---|---|---|---|\n");
    let mut rows: Vec<(&Parameter, Vec<&str>)> = Vec::new();
    for endpoint in ENDPOINTS {
        for parameter in endpoint.parameters {
            let same = |row: &&mut (&Parameter, Vec<&str>)| row.0.name == parameter.name && row.0.doc == parameter.doc;
            match rows.iter_mut().find(same) {
                Some((_, paths)) => paths.push(endpoint.path),
                None => rows.push((parameter, vec![endpoint.path])),
            }
        }
    }
    for (parameter, paths) in rows {
        let kind = match parameter.kind {
            Kind::Query => "expression".to_owned(),
            Kind::Selector => "selector".to_owned(),
            Kind::Time => "time".to_owned(),
            Kind::Duration => "duration".to_owned(),
            Kind::Number => "number".to_owned(),
            Kind::Switch => "switch".to_owned(),
            Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Kind::Text => "text".to_owned(),
        };
        let of: Vec<&str> = paths.iter().map(|path| path.strip_prefix("/api/v1/").unwrap_or(path)).collect();
        out.push_str(&format!("| `{}` | {kind} | {} | {} |\n", parameter.name, parameter.doc, of.join(", ")));
    }
}

fn push_language(out: &mut String) {
    out.push_str("\n## PromQL\n\n### Functions\n\n| function | in Prometheus | here |\n|---|---|---|\n");
    for function in functions::all() {
        let flag = if function.experimental { "`promql-experimental-functions`" } else { "always" };
        out.push_str(&format!("| `{}` | {flag} | same |\n", signature(function)));
    }
    out.push_str("\n### Aggregations\n\n| aggregation | in Prometheus | here |\n|---|---|---|\n");
    for op in AggregateOp::ALL {
        let experimental = matches!(op, AggregateOp::LimitK | AggregateOp::LimitRatio);
        let flag = if experimental { "`promql-experimental-functions`" } else { "always" };
        out.push_str(&format!("| `{}` | {flag} | same |\n", op.as_str()));
    }
    out.push_str("\n### Binary operators\n\n| operator | in Prometheus | here |\n|---|---|---|\n");
    for op in BinaryOp::ALL {
        out.push_str(&format!("| `{}` | always | same |\n", op.as_str()));
    }
    out.push_str("\n### Modifiers\n\n| modifier | meaning | in Prometheus | here |\n|---|---|---|---|\n");
    for (modifier, meaning, flag) in MODIFIERS {
        let flag = if flag.is_empty() { "always".to_owned() } else { format!("`{flag}`") };
        out.push_str(&format!("| {modifier} | {meaning} | {flag} | same |\n"));
    }
}

/// `round(v instant-vector, …)` without the names: types say it.
fn signature(function: &Function) -> String {
    let word = |kind: &ValueType| match kind {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "range",
        ValueType::String => "string",
    };
    let mut args: Vec<String> = function.args.iter().map(|kind| word(kind).to_owned()).collect();
    if let (Some(last), false) = (args.last_mut(), function.variadic == Variadic::No) {
        *last = format!("[{last}{}]", if function.variadic == Variadic::Any { "…" } else { "" });
    }
    format!("{}({})", function.name, args.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that reads and, when asked, writes a document of the source tree"
    )]
    fn compatibility_md_has_the_tables() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
        let found = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = found.split_once(MARKS.0).expect("the mark where the tables begin");
        let (_, after) = rest.split_once(MARKS.1).expect("the mark where the tables end");
        let expected = format!("{before}{}\n{}\n{}{after}", MARKS.0, markdown(), MARKS.1);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
            return;
        }
        assert!(
            found == expected,
            "docs/compatibility.md is out of date; run `UPDATE_DOCS=1 cargo test -p varve-server --lib compatibility`"
        );
    }
}
