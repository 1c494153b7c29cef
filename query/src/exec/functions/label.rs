//! label_replace, label_join, and the labels that `absent` derives from a selector.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use varve_model::labels::METRIC_NAME;
use varve_model::{Labels, LabelsBuilder, MatchOp, Matcher};

use crate::error::Error;
use crate::exec::block::{DERIVED, StepBlock};

fn invalid(what: &str, function: &str, text: &str) -> Error {
    Error::Execution(format!("invalid {what} in {function}(): {text}"))
}

/// Any UTF-8 text names a label, the empty one excepted. The replacement character stands where a string literal was
/// not UTF-8.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER)
}

/// A name that was given anew is there to stay.
fn name_again(builder: &mut LabelsBuilder, target: &str) {
    if target == METRIC_NAME {
        builder.remove(DERIVED);
    }
}

/// Labels of a builder whose names came from a query.
pub(crate) fn built(builder: LabelsBuilder) -> Result<Labels, Error> {
    builder.build().map_err(|error| Error::Execution(format!("invalid labels: {error:?}")))
}

/// Arguments of `label_replace` behind the vector.
pub(crate) struct Replace<'a> {
    pub(crate) target: &'a str,
    pub(crate) replacement: &'a str,
    pub(crate) source: &'a str,
    pub(crate) pattern: &'a str,
}

/// `label_replace`
pub(crate) fn replace(block: &mut StepBlock, arguments: &Replace<'_>, regex_bytes_max: usize) -> Result<(), Error> {
    let bad = || invalid("regular expression", "label_replace", arguments.pattern);
    let syntax = syntax::Config::new().dot_matches_new_line(true);
    // Alone first, so that a pattern cannot close our group.
    syntax::parse_with(arguments.pattern, &syntax).map_err(|_| bad())?;
    let config =
        Regex::config().nfa_size_limit(Some(regex_bytes_max)).hybrid_cache_capacity(regex_bytes_max.max(1 << 16));
    let regex = Regex::builder()
        .configure(config)
        .syntax(syntax)
        .build(&format!("^(?:{})$", arguments.pattern))
        .map_err(|_| bad())?;
    if !is_label_name(arguments.target) {
        return Err(invalid("destination label name", "label_replace", arguments.target));
    }
    let template = Template::parse(arguments.replacement, &regex);
    let mut captures = regex.create_captures();
    block.map_labels(|labels| {
        let source = labels.get(arguments.source).unwrap_or_default();
        regex.captures(source, &mut captures);
        if !captures.is_match() {
            return Ok(labels.clone());
        }
        let group = |number: usize| captures.get_group(number).and_then(|span| source.get(span.range()));
        let mut builder = labels.to_builder();
        builder.set(arguments.target, &template.expand(group));
        name_again(&mut builder, arguments.target);
        built(builder)
    })?;
    block.merge_same_labels()
}

/// A replacement text: literals and group numbers (`None` for groups that do not exist).
struct Template(Vec<Piece>);

enum Piece {
    Literal(String),
    Group(Option<usize>),
}

impl Template {
    /// `$1`, `$name`, `${name}` and `$$`, as Go expands them: a name is the longest run of letters, digits and `_`;
    /// a dollar that begins no name stays.
    fn parse(text: &str, regex: &Regex) -> Template {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let name = match after.strip_prefix('{') {
                Some(inner) => inner.find('}').map(|end| (&inner[..end], &inner[end + 1..])),
                None => Some(after.split_at(after.find(|c| !word(c)).unwrap_or(after.len()))),
            };
            match name {
                Some((name, after)) if !name.is_empty() && name.chars().all(word) => {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    let numeric = name.bytes().all(|b| b.is_ascii_digit());
                    pieces.push(Piece::Group(if numeric {
                        name.parse().ok()
                    } else {
                        regex.group_info().to_index(regex_automata::PatternID::ZERO, name)
                    }));
                    rest = after;
                }
                _ => {
                    literal.push('$');
                    rest = after;
                }
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal));
        Template(pieces)
    }

    fn expand<'a>(&self, group: impl Fn(usize) -> Option<&'a str>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Group(number) => out.push_str(number.and_then(&group).unwrap_or_default()),
            }
        }
        out
    }
}

/// `label_join`
pub(crate) fn join(block: &mut StepBlock, target: &str, separator: &str, sources: &[&str]) -> Result<(), Error> {
    if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
        return Err(invalid("source label name", "label_join", source));
    }
    if !is_label_name(target) {
        return Err(invalid("destination label name", "label_join", target));
    }
    block.map_labels(|labels| {
        let values: Vec<&str> = sources.iter().map(|source| labels.get(source).unwrap_or_default()).collect();
        let mut builder = labels.to_builder();
        builder.set(target, &values.join(separator));
        name_again(&mut builder, target);
        built(builder)
    })?;
    block.merge_same_labels()
}

/// The labels that all series of a selector would have: those matched for equality, unless matched several times.
pub(crate) fn of_absent(matchers: &[Matcher]) -> Result<Labels, Error> {
    let mut builder = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| *matcher.name != *varve_model::labels::METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&&*matcher.name) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    built(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, replacement: &str, source: &str, expected: &str) {
        let regex = Regex::new(pattern).unwrap();
        let mut captures = regex.create_captures();
        regex.captures(source, &mut captures);
        let template = Template::parse(replacement, &regex);
        let expanded = template.expand(|n| captures.get_group(n).and_then(|span| source.get(span.range())));
        assert_eq!(expanded, expected);
    }

    #[test]
    fn replacements_expand_as_in_go() {
        check("(a)(b)", "$2-$1", "ab", "b-a");
        check("(a)(b)", "$1x", "ab", "");
        check("(a)(b)", "${1}x", "ab", "ax");
        check("(?P<first>a)(b)", "$first$$ $", "ab", "a$ $");
        check("(a)", "$7${", "a", "${");
    }
}
