//! Reads one mapping of the configuration field by field, strictly: a field that nobody asked for is a problem, a
//! value of a wrong type is one, and all problems of a file are told together, each with its line, in the words of
//! Prometheus's YAML library.

use std::cell::RefCell;

use super::duration::{Duration, parse_size};
use crate::yaml::{Node, Value};

/// What is wrong with a document, line by line.
#[derive(Default, Debug)]
pub(crate) struct Problems(RefCell<Vec<String>>);

impl Problems {
    pub(crate) fn add(&self, line: usize, what: impl AsRef<str>) {
        self.0.borrow_mut().push(format!("line {line}: {}", what.as_ref()));
    }

    /// Nothing, or all of it as one error.
    pub(crate) fn result(self) -> Result<(), String> {
        let list = self.0.into_inner();
        if list.is_empty() { Ok(()) } else { Err(format!("yaml: unmarshal errors:\n  {}", list.join("\n  "))) }
    }
}

/// The fields of one mapping.
pub(crate) struct Fields<'a> {
    node: &'a Node,
    /// What messages call the mapping.
    kind: &'static str,
    asked: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(node: &'a Node, kind: &'static str, problems: &'a Problems) -> Fields<'a> {
        match &node.value {
            Value::Null => {}
            Value::Map(entries) => {
                for (i, entry) in entries.iter().enumerate() {
                    if entries.iter().take(i).any(|before| before.key == entry.key) {
                        problems.add(entry.line, format!("field {} already set in type {kind}", entry.key));
                    }
                }
            }
            _ => problems.add(node.line, format!("cannot unmarshal {} into {kind}", node.describe())),
        }
        Fields { node, kind, asked: Vec::new(), problems }
    }

    pub(crate) fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The value of a field; null counts as absent.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'a Node> {
        self.find(name).filter(|node| !node.is_null())
    }

    /// The value of a field, also null.
    pub(crate) fn find(&mut self, name: &'static str) -> Option<&'a Node> {
        self.asked.push(name);
        let Value::Map(entries) = &self.node.value else { return None };
        entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
    }

    fn wrong(&self, node: &Node, wanted: &str) {
        self.problems.add(node.line, format!("cannot unmarshal {} into {wanted}", node.describe()));
    }

    /// A text; numbers and booleans are texts too.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        let node = self.get(name)?;
        match &node.value {
            Value::Text { text, .. } => Some(text.clone()),
            _ => {
                self.wrong(node, "string");
                None
            }
        }
    }

    /// What `read` makes of a text.
    pub(crate) fn read<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let line = self.get(name).map(|node| node.line).unwrap_or_default();
        let text = self.text(name)?;
        read(&text).map_err(|what| self.problems.add(line, what)).ok()
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let node = self.get(name)?;
        let flag = match &node.value {
            Value::Text { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.wrong(node, "bool");
        }
        flag
    }

    pub(crate) fn count(&mut self, name: &'static str) -> Option<u64> {
        self.number(name, "uint")
    }

    pub(crate) fn float(&mut self, name: &'static str) -> Option<f64> {
        self.number(name, "float64")
    }

    fn number<T: std::str::FromStr>(&mut self, name: &'static str, wanted: &str) -> Option<T> {
        let node = self.get(name)?;
        let number = match &node.value {
            Value::Text { text, plain: true } => text.replace('_', "").parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(node, wanted);
        }
        number
    }

    pub(crate) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        self.read(name, Duration::parse)
    }

    pub(crate) fn size(&mut self, name: &'static str) -> Option<u64> {
        self.read(name, parse_size)
    }

    /// The elements of a sequence.
    pub(crate) fn list(&mut self, name: &'static str) -> Option<&'a [Node]> {
        let node = self.get(name)?;
        match &node.value {
            Value::List(nodes) => Some(nodes),
            _ => {
                self.wrong(node, "a list");
                None
            }
        }
    }

    pub(crate) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        Some(self.list(name)?.iter().filter_map(|node| self.as_text(node)).collect())
    }

    fn as_text(&self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text { text, .. } => Some(text.clone()),
            Value::Null => Some(String::new()),
            _ => {
                self.wrong(node, "string");
                None
            }
        }
    }

    /// A mapping of names to texts, in the order written.
    pub(crate) fn pairs(&mut self, name: &'static str) -> Option<Vec<(String, String)>> {
        let node = self.get(name)?;
        let Value::Map(entries) = &node.value else {
            self.wrong(node, "map[string]string");
            return None;
        };
        Some(entries.iter().filter_map(|entry| Some((entry.key.clone(), self.as_text(&entry.node)?))).collect())
    }

    /// A mapping of names to lists of texts; a text alone is a list of one.
    pub(crate) fn pair_lists(&mut self, name: &'static str) -> Option<Vec<(String, Vec<String>)>> {
        let node = self.get(name)?;
        let Value::Map(entries) = &node.value else {
            self.wrong(node, "map[string][]string");
            return None;
        };
        let values = |node: &Node| match &node.value {
            Value::List(nodes) => nodes.iter().filter_map(|node| self.as_text(node)).collect(),
            Value::Null => Vec::new(),
            _ => self.as_text(node).into_iter().collect(),
        };
        Some(entries.iter().map(|entry| (entry.key.clone(), values(&entry.node))).collect())
    }

    /// Ends the reading: what was not asked for is a problem.
    pub(crate) fn finish(self) {
        let Value::Map(entries) = &self.node.value else { return };
        for entry in entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            self.problems.add(entry.line, format!("field {} not found in type {}", entry.key, self.kind));
        }
    }
}
