//! Cross-origin calls: which scripts of other sites may read answers. The same headers as Prometheus's, by the same
//! setting.

use axum::http::{HeaderMap, HeaderValue, header};
use varve_model::{MatchOp, Matcher};

/// Memory of the compiled pattern of origins.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Who may read answers from a script of another origin.
#[derive(Debug)]
pub enum Cors {
    /// Everybody: the pattern `.*`.
    Everyone,
    /// Origins that match as a whole.
    Matching(Box<Matcher>),
}

impl Cors {
    /// From the setting `web_cors_origin`, a regular expression that has to match the whole origin.
    pub fn parse(pattern: &str) -> Result<Cors, String> {
        if pattern == ".*" {
            return Ok(Cors::Everyone);
        }
        Matcher::new(MatchOp::Regex, "origin", pattern, PATTERN_BYTES_MAX).map(|m| Cors::Matching(Box::new(m)))
    }

    /// Adds the headers for a request with this `Origin`.
    pub fn add(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| !origin.is_empty()) else { return };
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        match self {
            Cors::Everyone => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Cors::Matching(matcher) => {
                if origin.to_str().is_ok_and(|origin| matcher.matches(origin)) {
                    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, origin: &'static str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        Cors::parse(pattern).unwrap().add(Some(&HeaderValue::from_static(origin)), &mut headers);
        let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
        assert_eq!(allowed, expected, "{pattern} {origin}");
        assert_eq!(headers[header::VARY], "Origin");
    }

    #[test]
    fn a_pattern_matches_whole_origins() {
        check(".*", "https://a.example", Some("*"));
        check("https?://(a|b)\\.example", "https://a.example", Some("https://a.example"));
        check("https?://(a|b)\\.example", "https://a.example.org", None);
        assert!(Cors::parse("(").is_err());
        let mut headers = HeaderMap::new();
        Cors::Everyone.add(None, &mut headers);
        assert_eq!(headers.len(), 1);
    }
}
