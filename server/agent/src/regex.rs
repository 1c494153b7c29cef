//! Anchored regular expressions of the configuration, and the expansion of `$1` and `${name}`.
//!
//! Patterns match whole texts and a dot matches line breaks, as Prometheus compiles them. Matching takes linear time;
//! the compiled automaton is bounded.

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;

/// Bytes of one compiled expression.
const BYTES_MAX: usize = 8 << 20;

/// A compiled expression. Equal when the patterns are.
#[derive(Clone, Debug)]
pub struct Regex {
    pattern: String,
    compiled: meta::Regex,
}

impl PartialEq for Regex {
    fn eq(&self, other: &Regex) -> bool {
        self.pattern == other.pattern
    }
}

impl Regex {
    /// Compiles a pattern; the error says what is wrong with it.
    pub fn new(pattern: &str) -> Result<Regex, String> {
        let compiled = meta::Regex::builder()
            .syntax(syntax::Config::new().dot_matches_new_line(true))
            .configure(meta::Config::new().nfa_size_limit(Some(BYTES_MAX)).hybrid_cache_capacity(1 << 20))
            .build(&format!("^(?:{pattern})$"))
            .map_err(|error| match error.syntax_error() {
                Some(syntax) => format!("error parsing regexp: {syntax}"),
                None => format!("error parsing regexp: {error}"),
            })?;
        Ok(Regex { pattern: pattern.to_owned(), compiled })
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The groups of a match of the whole text.
    pub fn captures(&self, text: &str) -> Option<Captures> {
        let mut captures = self.compiled.create_captures();
        self.compiled.captures(text, &mut captures);
        captures.is_match().then_some(captures)
    }

    /// Replaces references to groups in `template` as Go's `Expand` does: `$name` takes the longest word, `$$` is a
    /// dollar, an unknown group is nothing, what is no reference stays.
    pub fn expand(&self, template: &str, text: &str, captures: &Captures) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            let (before, behind) = rest.split_at(at);
            out.push_str(before);
            let behind = behind.get(1..).unwrap_or_default();
            if let Some(after) = behind.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            match reference(behind) {
                Some((name, after)) => {
                    out.push_str(self.group(name, text, captures));
                    rest = after;
                }
                None => {
                    out.push('$');
                    rest = behind;
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn group<'a>(&self, name: &str, text: &'a str, captures: &Captures) -> &'a str {
        let span = if name.bytes().all(|byte| byte.is_ascii_digit()) {
            name.parse().ok().and_then(|index| captures.get_group(index))
        } else {
            captures.get_group_by_name(name)
        };
        span.and_then(|span| text.get(span.range())).unwrap_or_default()
    }
}

/// The name behind a dollar and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let inner = braced.unwrap_or(text);
    let len = inner.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(inner.len());
    let (name, after) = inner.split_at(len);
    if name.is_empty() {
        return None;
    }
    if braced.is_some() { Some((name, after.strip_prefix('}')?)) } else { Some((name, after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_go() {
        let regex = Regex::new("(?P<host>[^:]+):(\\d+)").unwrap();
        let text = "a.b:90";
        let captures = regex.captures(text).unwrap();
        for (template, expanded) in [
            ("$1", "a.b"),
            ("${host}-$2", "a.b-90"),
            ("$1x", ""),
            ("${1}x", "a.bx"),
            ("$$1", "$1"),
            ("$3|${nosuch}|", "||"),
            ("$", "$"),
            ("${", "${"),
            ("${a b}", "${a b}"),
            ("a$-b", "a$-b"),
        ] {
            assert_eq!(regex.expand(template, text, &captures), expanded, "{template}");
        }
    }

    #[test]
    fn patterns_match_whole_texts_over_lines() {
        let regex = Regex::new("a|b.c").unwrap();
        assert!(regex.is_match("a") && regex.is_match("b\nc"));
        assert!(!regex.is_match("ab") && !regex.is_match("xa"));
        assert!(Regex::new("(").unwrap_err().contains("error parsing regexp"));
        assert!(Regex::new("(((a{1000}){1000}){1000})").is_err());
    }
}
