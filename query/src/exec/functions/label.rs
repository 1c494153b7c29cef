//! label_replace, label_join, and the labels that `absent` derives from a selector.

use std::collections::BTreeMap;

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use varve_model::labels::METRIC_NAME;
use varve_model::{Labels, LabelsBuilder, MatchOp, Matcher};

use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::block::{DERIVED, StepBlock};
use crate::exec::keys::label_bytes;

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

/// Slots of groups that one search may copy: seconds of work at worst, during which nobody asks whether to go on.
const SLOTS_COPIED_MAX: u64 = 1 << 32;

/// A regular expression, and what a search with it may take.
struct Pattern {
    regex: Regex,
    /// Slots that the machine that follows all alternatives at once has for each byte it looks at: those of all groups
    /// for each of its states.
    slots: u64,
    _held: Held,
}

impl Pattern {
    fn new(pattern: &str, budget: &Budget) -> Result<Pattern, Error> {
        let bad = || invalid("regular expression", "label_replace", pattern);
        let syntax = syntax::Config::new().dot_matches_new_line(true);
        // Alone first, so that a pattern cannot close our group.
        syntax::parse_with(pattern, &syntax).map_err(|_| bad())?;
        let whole = syntax::parse_with(&format!("^(?:{pattern})$"), &syntax).map_err(|_| bad())?;
        let bytes_max = budget.limits().regex_bytes_max as usize;
        let config = thompson::Config::new().nfa_size_limit(Some(bytes_max));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&whole).map_err(|_| bad())?;
        let slots = (nfa.states().len() as u64).saturating_mul(nfa.group_info().slot_len() as u64 + 2);
        // Two tables of slots of eight bytes, made at the first search: a text of some kB can ask for many GiB.
        let held = budget.hold(slots.saturating_mul(16))?;
        let config = Regex::config().nfa_size_limit(Some(bytes_max)).hybrid_cache_capacity(bytes_max.max(1 << 16));
        let regex = Regex::builder().configure(config).build_from_hir(&whole).map_err(|_| bad())?;
        Ok(Pattern { regex, slots, _held: held })
    }

    fn captures(&self, text: &str, captures: &mut Captures) -> Result<(), Error> {
        if self.slots.saturating_mul(text.len() as u64) > SLOTS_COPIED_MAX {
            return Err(Error::Execution(format!(
                "regular expression in label_replace() is too large, or has too many groups, for a label value of {} bytes",
                text.len()
            )));
        }
        self.regex.captures(text, captures);
        Ok(())
    }
}

/// Label values that are long enough for their way through a builder to be charged.
const LONG_BYTES: u64 = 1 << 12;

/// Charges labels before one of them gets a value of so many bytes: what stays in `held`, and in what is returned what
/// making them takes.
fn make_room(held: &mut Held, labels: &Labels, value_bytes: u64, budget: &Budget) -> Result<Option<Held>, Error> {
    held.grow(label_bytes(labels).saturating_add(value_bytes))?;
    if value_bytes < LONG_BYTES { Ok(None) } else { budget.hold(value_bytes.saturating_mul(3)).map(Some) }
}

/// `label_replace`
pub(crate) fn replace(block: &mut StepBlock, arguments: &Replace<'_>, budget: &Budget) -> Result<(), Error> {
    let pattern = Pattern::new(arguments.pattern, budget)?;
    if !is_label_name(arguments.target) {
        return Err(invalid("destination label name", "label_replace", arguments.target));
    }
    let template = Template::parse(arguments.replacement, &pattern.regex);
    let mut captures = pattern.regex.create_captures();
    let mut held = budget.hold(0)?;
    block.map_labels(|labels| {
        budget.check()?;
        let source = labels.get(arguments.source).unwrap_or_default();
        pattern.captures(source, &mut captures)?;
        if !captures.is_match() {
            held.grow(label_bytes(labels))?;
            return Ok(labels.clone());
        }
        let group = |number: usize| captures.get_group(number).and_then(|span| source.get(span.range()));
        let _room = make_room(&mut held, labels, template.expanded_bytes(group), budget)?;
        let mut builder = labels.to_builder();
        builder.set(arguments.target, &template.expand(group));
        name_again(&mut builder, arguments.target);
        built(builder)
    })?;
    block.hold_labels(held);
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

    fn texts<'a>(&'a self, group: impl Fn(usize) -> Option<&'a str>) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(move |piece| match piece {
            Piece::Literal(text) => text,
            Piece::Group(number) => number.and_then(&group).unwrap_or_default(),
        })
    }

    /// Bytes of the expanded text.
    fn expanded_bytes<'a>(&'a self, group: impl Fn(usize) -> Option<&'a str>) -> u64 {
        self.texts(group).map(|text| text.len() as u64).sum()
    }

    fn expand<'a>(&'a self, group: impl Fn(usize) -> Option<&'a str>) -> String {
        self.texts(group).collect()
    }
}

/// `label_join`
pub(crate) fn join(
    block: &mut StepBlock,
    target: &str,
    separator: &str,
    sources: &[&str],
    budget: &Budget,
) -> Result<(), Error> {
    if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
        return Err(invalid("source label name", "label_join", source));
    }
    if !is_label_name(target) {
        return Err(invalid("destination label name", "label_join", target));
    }
    let mut held = budget.hold(0)?;
    block.map_labels(|labels| {
        budget.check()?;
        let values: Vec<&str> = sources.iter().map(|source| labels.get(source).unwrap_or_default()).collect();
        let separators = (separator.len() as u64).saturating_mul(values.len().saturating_sub(1) as u64);
        let bytes = values.iter().map(|value| value.len() as u64).sum::<u64>().saturating_add(separators);
        let _room = make_room(&mut held, labels, bytes, budget)?;
        let mut builder = labels.to_builder();
        builder.set(target, &values.join(separator));
        name_again(&mut builder, target);
        built(builder)
    })?;
    block.hold_labels(held);
    block.merge_same_labels()
}

/// The labels that all series of a selector would have: those matched for equality, unless matched several times.
pub(crate) fn of_absent(matchers: &[Matcher]) -> Result<Labels, Error> {
    // By name: the value of the first match for equality, and what is left of it. A query may name thousands.
    let mut values: BTreeMap<&str, (bool, &str)> = BTreeMap::new();
    for matcher in matchers.iter().filter(|matcher| *matcher.name != *METRIC_NAME) {
        let (seen, value) = values.entry(&matcher.name).or_default();
        *value = if matcher.op == MatchOp::Equal && !*seen { &matcher.value } else { "" };
        *seen |= matcher.op == MatchOp::Equal;
    }
    let mut builder = LabelsBuilder::default();
    for (name, (_, value)) in values {
        builder.push(name, value);
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
    fn absent_has_the_labels_that_were_asked_for_once() {
        let labels = |matchers: &[(MatchOp, &str, &str)]| {
            let matcher = |(op, name, value): &(MatchOp, &str, &str)| Matcher::new(*op, name, value, 1 << 20).unwrap();
            of_absent(&matchers.iter().map(matcher).collect::<Vec<_>>()).unwrap().to_string()
        };
        use MatchOp::{Equal, NotEqual};
        assert_eq!(labels(&[(Equal, "a", "1"), (Equal, "b", "2"), (Equal, "__name__", "x")]), r#"{a="1", b="2"}"#);
        assert_eq!(labels(&[(Equal, "a", "1"), (Equal, "a", "1"), (Equal, "b", "")]), "{}");
        assert_eq!(labels(&[(NotEqual, "a", "1"), (Equal, "a", "2")]), r#"{a="2"}"#);
        assert_eq!(labels(&[(Equal, "a", "2"), (NotEqual, "a", "1"), (Equal, "a", "3")]), "{}");
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
