//! Matchers: `name =, !=, =~, !~ value`, compiled with a size limit and anchored at both ends as in Prometheus.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta::Regex;

use crate::labels::Labels;

/// The operator of a matcher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A condition on one label. A label that a series does not have counts as the empty string.
#[derive(Clone)]
pub struct Matcher {
    /// Label name.
    pub name: Arc<str>,
    /// Operator.
    pub op: MatchOp,
    /// Value or regular expression as written.
    pub value: Arc<str>,
    regex: Option<Arc<Regex>>,
}

impl Matcher {
    /// Compiles a matcher. The compiled automaton is bounded by `regex_bytes_max`; the error text names what is wrong.
    pub fn new(op: MatchOp, name: &str, value: &str, regex_bytes_max: usize) -> Result<Matcher, String> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(compile(value, regex_bytes_max)?)),
        };
        Ok(Matcher { name: name.into(), op, value: value.into(), regex })
    }

    /// Whether a label value (the empty string for an absent label) satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => *self.value == *value,
            (MatchOp::NotEqual, _) => *self.value != *value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => false,
        }
    }

    /// Whether a series with these labels satisfies the condition.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether a series without the label satisfies the condition.
    pub fn matches_absent(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

/// Compiles `^(?s:pattern)$` as Prometheus does: anchored, `.` matches newlines, bounded in size.
fn compile(pattern: &str, regex_bytes_max: usize) -> Result<Regex, String> {
    // Parsed alone first, so that `)(`, which would close our group, is refused.
    regex_syntax::parse(pattern).map_err(|e| format!("invalid regular expression {pattern:?}: {e}"))?;
    let config =
        Regex::config().nfa_size_limit(Some(regex_bytes_max)).hybrid_cache_capacity(regex_bytes_max.max(1 << 16));
    Regex::builder()
        .configure(config)
        .syntax(regex_automata::util::syntax::Config::new().dot_matches_new_line(true))
        .build(&format!("^(?:{pattern})$"))
        .map_err(|e| format!("regular expression {pattern:?} cannot be compiled within {regex_bytes_max} bytes: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, value: &str, expected: bool) {
        let matcher = Matcher::new(MatchOp::Regex, "a", pattern, 1 << 20).unwrap();
        assert_eq!(matcher.matches(value), expected, "{pattern} on {value:?}");
    }

    #[test]
    fn regexes_are_anchored_at_both_ends() {
        check("a|b", "a", true);
        check("a|b", "ab", false);
        check(".*", "x\ny", true);
        check(".+", "", false);
        check("", "", true);
    }

    #[test]
    fn a_group_cannot_be_closed_from_inside() {
        assert!(Matcher::new(MatchOp::Regex, "a", "x)|(y", 1 << 20).is_err());
    }

    #[test]
    fn a_bomb_is_refused() {
        assert!(Matcher::new(MatchOp::Regex, "a", "((a{1000}){1000}){1000}", 1 << 20).is_err());
    }
}
