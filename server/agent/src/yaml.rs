//! YAML as the configuration needs it: a tree whose nodes know their line, and a printer.
//!
//! The scanner is a library's; the tree is ours because messages need lines and because anchors must not expand
//! without bound. Merge keys (`<<`) are followed, as Prometheus's YAML library does. A tree is read by
//! [`crate::config::fields`].

use std::collections::HashMap;
use std::fmt::Write;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Nodes of one document, aliases expanded.
const NODES_MAX: usize = 1_000_000;
/// Nesting of one document.
const DEPTH_MAX: usize = 64;

/// A node of a document.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Where it begins, from 1.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar; `plain` when it stands without quotes and may be a number or a boolean.
    Text {
        /// Its text.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A sequence of texts that is printed within brackets; never read.
    Flow(Vec<String>),
    /// A mapping, in the order written.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Line of the key.
    pub line: usize,
    /// The key.
    pub key: String,
    /// The value.
    pub node: Node,
}

impl Node {
    /// An unquoted scalar, for printing.
    pub fn plain(text: impl Into<String>) -> Node {
        Node { line: 0, value: Value::Text { text: text.into(), plain: true } }
    }

    /// A text, for printing.
    pub fn text(text: impl Into<String>) -> Node {
        Node { line: 0, value: Value::Text { text: text.into(), plain: false } }
    }

    /// A sequence of texts within brackets, for printing.
    pub fn flow(texts: &[String]) -> Node {
        Node { line: 0, value: Value::Flow(texts.to_vec()) }
    }

    /// A sequence, for printing.
    pub fn list(nodes: impl IntoIterator<Item = Node>) -> Node {
        Node { line: 0, value: Value::List(nodes.into_iter().collect()) }
    }

    /// A mapping, for printing.
    pub fn map(entries: impl IntoIterator<Item = (String, Node)>) -> Node {
        let entries = entries.into_iter().map(|(key, node)| Entry { line: 0, key, node }).collect();
        Node { line: 0, value: Value::Map(entries) }
    }

    /// Whether there is nothing in it.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// What Prometheus's messages call it.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "!!null".to_owned(),
            Value::Text { text, .. } => {
                let tag = if text.parse::<i64>().is_ok() { "!!int" } else { "!!str" };
                let shown: String = text.chars().take(10).collect();
                let more = if shown.len() < text.len() { "..." } else { "" };
                format!("{tag} `{}{more}`", shown.replace('\n', " "))
            }
            Value::List(_) | Value::Flow(_) => "!!seq".to_owned(),
            Value::Map(_) => "!!map".to_owned(),
        }
    }
}

/// Reads the first document of a text. An empty text is null.
pub fn parse(text: &str) -> Result<Node, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let null = Node { line: 1, value: Value::Null };
    loop {
        match reader.next()? {
            Some((Event::DocumentStart(_), _)) => {
                let Some((event, line)) = reader.next()? else { return Ok(null) };
                return reader.node(event, line, 0);
            }
            Some((Event::StreamEnd, _)) | None => return Ok(null),
            Some(_) => {}
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, usize)>, String> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, span.start.line()))),
            Some(Err(error)) => Err(format!("yaml: line {}: {}", error.marker().line(), error.info())),
        }
    }

    fn must(&mut self) -> Result<(Event<'a>, usize), String> {
        self.next()?.ok_or_else(|| "yaml: the document ends too early".to_owned())
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX { Err("yaml: document contains excessive aliasing".to_owned()) } else { Ok(()) }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err(format!("yaml: line {line}: nested more than {DEPTH_MAX} deep"));
        }
        self.count(1)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let known = known.ok_or_else(|| format!("yaml: line {line}: unknown anchor"))?;
                self.count(size(&known))?;
                return Ok(Node { line, ..known });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let is_null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (anchor, if is_null { Value::Null } else { Value::Text { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(anchor, _) => {
                let mut nodes = Vec::new();
                loop {
                    match self.must()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => nodes.push(self.node(event, line, depth + 1)?),
                    }
                }
                (anchor, Value::List(nodes))
            }
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.entries(depth)?)),
            _ => return Err(format!("yaml: line {line}: expected a value")),
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.count(size(&node))?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, String> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, line) = match self.must()? {
                (Event::MappingEnd, _) => break,
                key => key,
            };
            let Event::Scalar(key, _, _, _) = event else {
                return Err(format!("yaml: line {line}: a key must be a scalar"));
            };
            let (event, value_line) = self.must()?;
            let node = self.node(event, value_line, depth + 1)?;
            if key != "<<" {
                entries.push(Entry { line, key: key.into_owned(), node });
                continue;
            }
            let sources = match node.value {
                Value::List(nodes) => nodes,
                value => vec![Node { line: value_line, value }],
            };
            for source in sources {
                let Value::Map(more) = source.value else {
                    return Err("yaml: map merge requires map or sequence of maps as the value".to_owned());
                };
                merged.extend(more);
            }
        }
        for entry in merged {
            if !entries.iter().any(|known| known.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Text { .. } | Value::Flow(_) => 1,
        Value::List(nodes) => nodes.iter().map(size).sum::<usize>() + 1,
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum::<usize>() + 1,
    }
}

/// Prints a mapping as Prometheus prints its configuration: sequences at the margin of their key.
pub fn print(node: &Node) -> String {
    let mut out = String::new();
    print_at(&mut out, node, 0, false);
    out
}

fn print_at(out: &mut String, node: &Node, indent: usize, in_list: bool) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for (i, entry) in entries.iter().enumerate() {
                if i > 0 || !in_list {
                    out.push_str(&" ".repeat(indent));
                }
                let _ = write!(out, "{}:", scalar(&entry.key, false));
                match &entry.node.value {
                    Value::Map(inner) if !inner.is_empty() => {
                        out.push('\n');
                        print_at(out, &entry.node, indent + 2, false);
                    }
                    Value::List(inner) if !inner.is_empty() => {
                        out.push('\n');
                        print_at(out, &entry.node, indent, false);
                    }
                    _ => {
                        out.push(' ');
                        print_at(out, &entry.node, indent + 2, true);
                    }
                }
            }
        }
        Value::List(nodes) if !nodes.is_empty() => {
            for node in nodes {
                let _ = write!(out, "{}- ", " ".repeat(indent));
                print_at(out, node, indent + 2, true);
            }
        }
        Value::Map(_) => out.push_str("{}\n"),
        Value::List(_) => out.push_str("[]\n"),
        Value::Flow(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| scalar_in_flow(text)).collect();
            let _ = writeln!(out, "[{}]", texts.join(", "));
        }
        Value::Null => out.push_str("null\n"),
        Value::Text { text, plain } => {
            let literal = text.chars().all(|c| c == '\n' || is_printable(c))
                && text.contains('\n')
                && !text.starts_with([' ', '\n'])
                && !text.ends_with("\n\n")
                && !text.contains(" \n");
            if !plain && literal {
                let indent = " ".repeat(indent);
                let _ = writeln!(out, "|{}", if text.ends_with('\n') { "" } else { "-" });
                for line in text.lines() {
                    let _ = writeln!(out, "{indent}{line}");
                }
            } else {
                out.push_str(&scalar(text, *plain));
                out.push('\n');
            }
        }
    }
}

/// A scalar, quoted where it would be read as something else.
fn scalar(text: &str, plain: bool) -> String {
    if !text.chars().all(is_printable) {
        return escaped(text);
    }
    let lower = text.to_ascii_lowercase();
    let looks_like_another = matches!(
        lower.as_str(),
        "" | "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "<<" | "="
    ) || text.parse::<f64>().is_ok()
        || lower.starts_with("0x");
    if looks_like_another && !plain {
        return escaped(text);
    }
    const SPECIAL: &[char] =
        &['-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' '];
    let special = text.starts_with(SPECIAL) && !(plain && text.parse::<f64>().is_ok());
    if special || text.contains(": ") || text.contains(" #") || text.ends_with([' ', ':']) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

/// A scalar within brackets.
fn scalar_in_flow(text: &str) -> String {
    if text.contains([',', '[', ']', '{', '}', ':', '\'', '"']) { escaped(text) } else { scalar(text, false) }
}

/// Whether YAML allows a character to stand for itself on a line.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A text in double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_lines_and_follows_anchors() {
        let node = parse("a: &x\n  b: 1\n  c: [p, 'q']\nd:\n  <<: *x\n  b: 2\ne:\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        assert_eq!(
            entries.iter().map(|e| (e.key.as_str(), e.line)).collect::<Vec<_>>(),
            [("a", 1), ("d", 4), ("e", 7)]
        );
        let Value::Map(merged) = &entries[1].node.value else { panic!("{node:?}") };
        assert_eq!(merged.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert!(entries[2].node.is_null());
        assert!(parse("a: [1").unwrap_err().starts_with("yaml: line "));
        assert!(parse("").unwrap().is_null());
    }

    #[test]
    fn anchors_do_not_expand_without_bound() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..10 {
            let inner = format!("*a{}", i - 1);
            text.push_str(&format!("a{i}: &a{i} [{}]\n", [inner.as_str(); 10].join(", ")));
        }
        assert!(parse(&text).unwrap_err().contains("excessive aliasing"));
        assert!(parse(&"[".repeat(1000)).is_err());
    }

    #[test]
    fn what_is_printed_reads_back() {
        let node = Node::map([
            ("text".to_owned(), Node::text("plain words")),
            ("odd".to_owned(), Node::text("a: b")),
            ("number".to_owned(), Node::text("15")),
            ("lines".to_owned(), Node::text("a\nb\n")),
            ("semi".to_owned(), Node::text(";")),
            ("star".to_owned(), Node::text("*")),
            ("list".to_owned(), Node::list([Node::map([("x".to_owned(), Node::plain("1"))]), Node::text("z")])),
            ("none".to_owned(), Node::list([])),
        ]);
        let printed = print(&node);
        assert!(printed.contains("list:\n- x: 1\n- z\n"), "{printed}");
        assert!(printed.contains("semi: ;\nstar: '*'\n"), "{printed}");
        let again = parse(&printed).unwrap();
        assert_eq!(print(&again), printed);
    }
}
