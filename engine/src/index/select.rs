//! Select: matchers to the ids that satisfy them all, cheapest matcher first.
//!
//! A label that a series lacks counts as the empty string. So a matcher that the empty string satisfies *excludes*
//! the series that carry a value it does not want; any other matcher *includes* the series that carry a value it
//! wants. With R = the series whose value satisfies the operator taken positively (`=`, `=~`) and H = the series that
//! have the label at all:
//! ```text
//!              empty string does not match    empty string matches
//! =  =~        include R                      exclude H - R
//! != !~        include H - R                  exclude R
//! ```
//! R of a regular expression: its literals are looked up, its literal prefixes scanned as ranges, and only without
//! either all values of the name are walked; each distinct value is tested once, never each series.

use regex_syntax::hir::literal::Extractor;
use roaring::RoaringBitmap;
use varve_model::{MatchOp, Matcher};

/// A store of terms of one tenant.
pub(crate) trait TermSource {
    /// What reading can fail with.
    type Error;
    /// Every series.
    fn all(&self) -> Result<RoaringBitmap, Self::Error>;
    /// Adds the series that have the label `name` with any value.
    fn having(&self, name: &str, into: &mut RoaringBitmap) -> Result<(), Self::Error>;
    /// Adds the series that have `name` with exactly `value`, which is not empty.
    fn exact(&self, name: &str, value: &str, into: &mut RoaringBitmap) -> Result<(), Self::Error>;
    /// Adds the series whose value of `name` begins with one of `prefixes` and is `wanted`.
    fn scan(
        &self,
        name: &str,
        prefixes: &[&[u8]],
        wanted: &dyn Fn(&str) -> bool,
        into: &mut RoaringBitmap,
    ) -> Result<(), Self::Error>;
}

/// Literals beyond this many are not looked up one by one.
const LITERALS_MAX: usize = 4096;

/// Values that may satisfy a matcher taken positively.
#[derive(PartialEq, Eq, Debug)]
enum Candidate {
    /// Any value.
    Any,
    /// One value.
    Exact(String),
    /// Values that begin so.
    Prefix(Vec<u8>),
}

struct Plan<'a> {
    matcher: &'a Matcher,
    candidates: Vec<Candidate>,
    /// Whether the matcher excludes; else it includes.
    excludes: bool,
    /// Whether H - R is meant instead of R.
    complement: bool,
    cost: u32,
}

impl Plan<'_> {
    fn new(matcher: &Matcher) -> Plan<'_> {
        let positive = matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        let excludes = matcher.matches_absent();
        let candidates = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => vec![Candidate::Exact(matcher.value.to_string())],
            MatchOp::Regex | MatchOp::NotRegex => candidates(&matcher.value),
        };
        let cost = candidates
            .iter()
            .map(|candidate| match candidate {
                Candidate::Exact(_) => 1,
                Candidate::Any => 10,
                Candidate::Prefix(prefix) if prefix.is_empty() => 100_000,
                Candidate::Prefix(_) => 1000,
            })
            .sum::<u32>()
            + u32::from(excludes);
        Plan { matcher, candidates, excludes, complement: positive == excludes, cost }
    }

    /// R, or H - R.
    fn run<T: TermSource>(&self, terms: &T) -> Result<RoaringBitmap, T::Error> {
        let positive = matches!(self.matcher.op, MatchOp::Equal | MatchOp::Regex);
        let wanted = |value: &str| self.matcher.matches(value) == positive;
        let mut found = RoaringBitmap::new();
        let mut prefixes: Vec<&[u8]> = Vec::new();
        for candidate in &self.candidates {
            match candidate {
                Candidate::Any => terms.having(&self.matcher.name, &mut found)?,
                Candidate::Exact(value) if !value.is_empty() && wanted(value) => {
                    terms.exact(&self.matcher.name, value, &mut found)?;
                }
                Candidate::Exact(_) => {}
                Candidate::Prefix(prefix) => prefixes.push(prefix),
            }
        }
        if !prefixes.is_empty() {
            terms.scan(&self.matcher.name, &prefixes, &wanted, &mut found)?;
        }
        if self.complement {
            let mut having = RoaringBitmap::new();
            terms.having(&self.matcher.name, &mut having)?;
            having -= found;
            return Ok(having);
        }
        Ok(found)
    }
}

/// A superset of the values that the regular expression matches, none of them a prefix of another.
fn candidates(pattern: &str) -> Vec<Candidate> {
    if matches!(pattern, ".*" | ".+") {
        return vec![Candidate::Any];
    }
    let walk = || vec![Candidate::Prefix(Vec::new())];
    let parsed = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern);
    let Ok(hir) = parsed else { return walk() };
    let mut extractor = Extractor::new();
    extractor.limit_class(64).limit_literal_len(512).limit_total(LITERALS_MAX);
    let sequence = extractor.extract(&hir);
    let Some(literals) = sequence.literals() else { return walk() };
    // Assertions inside the pattern only narrow what its literals say; `wanted` tests every value anyway.
    let mut exact = Vec::new();
    let mut prefixes: Vec<&[u8]> = Vec::new();
    for literal in literals {
        match std::str::from_utf8(literal.as_bytes()) {
            Ok(value) if literal.is_exact() => exact.push(value.to_owned()),
            _ => prefixes.push(literal.as_bytes()),
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup_by(|longer, shorter| longer.starts_with(shorter));
    exact.sort_unstable();
    exact.dedup();
    exact.retain(|value| !prefixes.iter().any(|prefix| value.as_bytes().starts_with(prefix)));
    let prefixes = prefixes.into_iter().map(|prefix| Candidate::Prefix(prefix.to_owned()));
    exact.into_iter().map(Candidate::Exact).chain(prefixes).collect()
}

/// The ids that satisfy all matchers; without matchers every id.
pub(crate) fn select<T: TermSource>(terms: &T, matchers: &[Matcher]) -> Result<RoaringBitmap, T::Error> {
    let mut plans: Vec<Plan<'_>> = matchers.iter().map(Plan::new).collect();
    plans.sort_by_key(|plan| plan.cost);
    let mut result: Option<RoaringBitmap> = None;
    for plan in &plans {
        let found = plan.run(terms)?;
        let narrowed = match (result.take(), plan.excludes) {
            (None, false) => found,
            (None, true) => terms.all()? - found,
            (Some(result), false) => result & found,
            (Some(result), true) => result - found,
        };
        if narrowed.is_empty() {
            return Ok(narrowed);
        }
        result = Some(narrowed);
    }
    match result {
        Some(result) => Ok(result),
        None => terms.all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &[&str]) {
        let found: Vec<String> = candidates(pattern)
            .into_iter()
            .map(|candidate| match candidate {
                Candidate::Any => "any".to_owned(),
                Candidate::Exact(value) => format!("={value}"),
                Candidate::Prefix(prefix) => format!("^{}", String::from_utf8_lossy(&prefix)),
            })
            .collect();
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn literals_are_looked_up_and_prefixes_scanned() {
        check("abc", &["=abc"]);
        check("a|b|cd", &["=a", "=b", "=cd"]);
        check("node-[0-2]", &["=node-0", "=node-1", "=node-2"]);
        check("node-.*", &["^node-"]);
        check("(web|db)-.+", &["^db-", "^web-"]);
        check("a|ab.*|abc.*", &["=a", "^ab"]);
        check(".*", &["any"]);
        check(".+", &["any"]);
        check(".*x", &["^"]);
        check("", &["="]);
    }
}
