//! Reads test scripts: `load`, `clear`, `eval instant|range … expect …` blocks, as Prometheus documents them.

#[path = "native.rs"]
mod native;

use varve_model::{Histogram, Labels, LabelsBuilder, STALE_NAN_BITS};

/// A value of a series description.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Item {
    /// `_`
    Omitted,
    /// A number, or the stale marker.
    Float(f64),
    /// `{{…}}`
    Histogram(Box<Histogram>),
}

/// A text that is expected.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Wanted {
    /// Any.
    Any,
    /// This one.
    Text(String),
    /// One that matches somewhere.
    Regex(String),
}

impl Wanted {
    fn parse(rest: &str) -> Wanted {
        let rest = rest.trim();
        if let Some(text) = rest.strip_prefix("msg:") {
            Wanted::Text(text.trim().to_owned())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Wanted::Regex(pattern.trim().to_owned())
        } else {
            Wanted::Any
        }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Text(wanted) => wanted == text,
            Wanted::Regex(pattern) => regex_automata::meta::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text)),
        }
    }
}

pub(crate) struct Load {
    pub(crate) gap_ms: i64,
    pub(crate) series: Vec<(Labels, Vec<Item>)>,
    /// By series: how long before a sample its counter began, where that is known.
    pub(crate) starts: Vec<(Labels, Vec<Option<i64>>)>,
}

#[derive(Default)]
pub(crate) struct Eval {
    pub(crate) line: usize,
    pub(crate) expr: String,
    pub(crate) range: bool,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
    pub(crate) fails: bool,
    pub(crate) message: Option<Wanted>,
    /// Warnings: those wanted; `Some` of nothing when there must be none; `None` when anything may be.
    pub(crate) warnings: Option<Vec<Wanted>>,
    /// Infos, told the same way.
    pub(crate) infos: Option<Vec<Wanted>>,
    pub(crate) ordered: bool,
    pub(crate) scalar: Option<f64>,
    pub(crate) string: Option<String>,
    pub(crate) range_vector: bool,
    pub(crate) expected: Vec<(Labels, Vec<Item>)>,
}

pub(crate) enum Command {
    Load(Load),
    Eval(Eval),
}

/// The blocks between `clear` lines.
pub(crate) fn parse(text: &str) -> Result<Vec<Vec<Command>>, String> {
    let lines: Vec<&str> =
        text.lines().map(|line| line.trim()).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut blocks = vec![Vec::new()];
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line.is_empty() {
            continue;
        }
        let number = at;
        let context = |what: String| format!("line {number}: {what}");
        let mut body = Vec::new();
        while !line.starts_with("clear") && at < lines.len() && !lines[at].is_empty() {
            body.push(lines[at]);
            at += 1;
        }
        if line.starts_with("clear") {
            blocks.push(Vec::new());
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        if line.starts_with("load") {
            block.push(Command::Load(load(line, &body).map_err(context)?));
        } else if line.starts_with("eval") {
            block.push(Command::Eval(eval(line, &body, number).map_err(context)?));
        } else {
            return Err(context(format!("unknown command {line:?}")));
        }
    }
    Ok(blocks)
}

fn load(line: &str, body: &[&str]) -> Result<Load, String> {
    let gap_ms = duration(line.split_whitespace().nth(1).ok_or("load without a step")?)?;
    let with_nhcb = line.starts_with("load_with_nhcb");
    let mut load = Load { gap_ms, series: Vec::new(), starts: Vec::new() };
    let mut started = None;
    for line in body {
        let head = line.split_whitespace().next().unwrap_or_default();
        if head.ends_with("@st") {
            started = Some(starts(line[head.len()..].trim())?);
            continue;
        }
        let (labels, rest) = metric(line)?;
        let items = items(rest)?;
        load.series.retain(|(other, _)| *other != labels);
        load.starts.retain(|(other, _)| *other != labels);
        load.starts.extend(started.take().map(|starts| (labels.clone(), starts)));
        load.series.push((labels, items));
    }
    if with_nhcb {
        native::convert(&mut load)?;
    }
    Ok(load)
}

fn eval(line: &str, body: &[&str], number: usize) -> Result<Eval, String> {
    let mut eval = Eval { line: number, ..Eval::default() };
    let (command, rest) = line.split_once(char::is_whitespace).ok_or("eval without arguments")?;
    match command {
        "eval_fail" => eval.fails = true,
        "eval_ordered" => eval.ordered = true,
        "eval_warn" => eval.warnings = Some(vec![Wanted::Any]),
        "eval_info" => eval.infos = Some(vec![Wanted::Any]),
        _ => {}
    }
    let rest = rest.trim();
    if let Some(rest) = rest.strip_prefix("instant") {
        let rest = rest.trim().strip_prefix("at").ok_or("instant without a time")?.trim();
        let (time, expr) = rest.split_once(char::is_whitespace).ok_or("instant without an expression")?;
        eval.start = duration(time)?;
        eval.end = eval.start;
        eval.expr = expr.trim().to_owned();
    } else if let Some(rest) = rest.strip_prefix("range") {
        eval.range = true;
        let mut words = Words(rest);
        let mut after = |name: &str| match (words.next(), words.next()) {
            (Some(word), Some(value)) if word == name => duration(value),
            _ => Err(format!("range without {name}")),
        };
        (eval.start, eval.end, eval.step) = (after("from")?, after("to")?, after("step")?);
        eval.expr = words.0.trim().to_owned();
    } else {
        return Err(format!("bad eval {line:?}"));
    }
    for line in body {
        if !expectation(&mut eval, line)? {
            break;
        }
    }
    Ok(eval)
}

/// Reads one line below an eval; `false` when it was the last.
fn expectation(eval: &mut Eval, line: &str) -> Result<bool, String> {
    if let Some(text) = line.strip_prefix("expected_fail_message ").filter(|_| eval.fails) {
        eval.message = Some(Wanted::Text(text.trim().to_owned()));
        return Ok(false);
    }
    if let Some(pattern) = line.strip_prefix("expected_fail_regexp ").filter(|_| eval.fails) {
        eval.message = Some(Wanted::Regex(pattern.trim().to_owned()));
        return Ok(false);
    }
    if let Some(rest) = line.strip_prefix("expect range vector") {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [_, start, _, end, _, step] = words[..] else { return Err(format!("bad {line:?}")) };
        (eval.start, eval.end, eval.step) = (duration(start)?, duration(end)?, duration(step)?);
        eval.range_vector = true;
    } else if let Some(text) = line.strip_prefix("expect string ") {
        eval.string = Some(unquote(text.trim())?.0);
    } else if line == "expect ordered" {
        eval.ordered = true;
    } else if let Some(rest) = line.strip_prefix("expect fail") {
        eval.fails = true;
        eval.message = Some(Wanted::parse(rest));
    } else if line == "expect no_warn" {
        eval.warnings = Some(Vec::new());
    } else if line == "expect no_info" {
        eval.infos = Some(Vec::new());
    } else if let Some(rest) = line.strip_prefix("expect warn") {
        eval.warnings.get_or_insert_default().push(Wanted::parse(rest));
    } else if let Some(rest) = line.strip_prefix("expect info") {
        eval.infos.get_or_insert_default().push(Wanted::parse(rest));
    } else if line.starts_with("expect ") {
        return Err(format!("bad {line:?}"));
    } else if let Ok(value) = number(line) {
        eval.scalar = Some(value);
        return Ok(false);
    } else {
        let (labels, rest) = metric(line)?;
        let items = items(rest)?;
        eval.expected.retain(|(other, _)| *other != labels);
        eval.expected.push((labels, items));
    }
    Ok(true)
}

/// `-1m`, `-1m-30sx5`, `_x3`: start timestamps from the times of their samples.
fn starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut starts = Vec::new();
    for word in text.split_whitespace() {
        let bad = || format!("bad start time {word:?}");
        let (body, times) = match word.split_once('x') {
            Some((body, times)) => (body, Some(times.parse::<usize>().map_err(|_| bad())?)),
            None => (word, None),
        };
        if body == "_" {
            starts.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let signed = |text: &str| match text.strip_prefix('-') {
            Some(rest) => duration(rest).map(|ms| -ms),
            None => duration(text.trim_start_matches('+')),
        };
        let cut = body[1..].find(['+', '-']).map_or(body.len(), |at| at + 1);
        let mut value = signed(&body[..cut])?;
        let difference = if cut < body.len() { signed(&body[cut..])? } else { 0 };
        for _ in 0..times.unwrap_or(0) + 1 {
            starts.push(Some(value));
            value += difference;
        }
    }
    Ok(starts)
}

/// Words of a text, leaving the rest.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        Some(word).filter(|word| !word.is_empty())
    }
}

fn duration(text: &str) -> Result<i64, String> {
    let mut rest = text;
    let mut total = 0;
    if rest == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("bad duration {text:?}"))?;
        let count: i64 = rest[..digits].parse().map_err(|_| format!("bad duration {text:?}"))?;
        rest = &rest[digits..];
        let units = [
            ("ms", 1),
            ("s", 1_000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
            ("w", 604_800_000),
            ("y", 31_536_000_000),
        ];
        let (unit, ms) =
            units.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(|| format!("bad duration {text:?}"))?;
        total += count * ms;
        rest = &rest[unit.len()..];
    }
    Ok(total)
}

fn number(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let unsigned = lower.trim_start_matches(['+', '-']);
    if let Some(hex) = unsigned.strip_prefix("0x") {
        let value = i64::from_str_radix(hex, 16).map_err(|e| e.to_string())? as f64;
        return Ok(if lower.starts_with('-') { -value } else { value });
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned != "inf" && unsigned != "nan" {
        return Err(format!("bad number {text:?}"));
    }
    lower.parse().map_err(|_| format!("bad number {text:?}"))
}

/// A Go string literal and what follows it.
fn unquote(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().filter(|c| "\"'`".contains(*c)).ok_or_else(|| format!("no string at {text:?}"))?;
    let mut out = Vec::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let text_out = String::from_utf8(out).map_err(|e| e.to_string())?;
            return Ok((text_out, &text[at + 1..]));
        }
        if c != '\\' || quote == '`' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (at, c) = chars.next().ok_or("unfinished escape")?;
        let mut code = |digits: usize| {
            let value = u32::from_str_radix(&text[at + 1..at + 1 + digits], 16).map_err(|e| e.to_string());
            chars.by_ref().take(digits).for_each(drop);
            value
        };
        match c {
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            'x' => out.push(code(2)? as u8),
            'u' => {
                let c = char::from_u32(code(4)?).ok_or("bad code point")?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(format!("unfinished string at {text:?}"))
}

fn word_end(text: &str, colons: bool) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':'))).unwrap_or(text.len())
}

/// A metric and what follows it.
fn metric(line: &str) -> Result<(Labels, &str), String> {
    let mut builder = LabelsBuilder::default();
    let end = word_end(line, true);
    let (name, mut rest) = line.split_at(end);
    builder.set("__name__", name);
    if rest.trim_start().starts_with('{') && !rest.trim_start().starts_with("{{") {
        rest = &rest.trim_start()[1..];
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, after) = match unquote(rest) {
                Ok((name, after)) => (name, after),
                Err(_) => {
                    let (name, after) = rest.split_at(word_end(rest, false));
                    (name.to_owned(), after)
                }
            };
            rest = after.trim_start();
            if let Some(after) = rest.strip_prefix('=') {
                let (value, after) = unquote(after.trim_start())?;
                builder.set(&name, &value);
                rest = after;
            } else if name.is_empty() {
                return Err(format!("bad metric {line:?}"));
            } else {
                builder.set("__name__", &name);
            }
        }
    } else if name.is_empty() {
        return Err(format!("not a series: {line:?}"));
    }
    Ok((builder.build().map_err(|e| format!("{line:?}: {e:?}"))?, rest))
}

fn items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if rest.starts_with("{{") {
            rest = native::items(rest, &mut items)?.trim_start();
            continue;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        item(&rest[..end], &mut items)?;
        rest = rest[end..].trim_start();
    }
    Ok(items)
}

/// `v`, `v+dxn`, `v-dxn`, `vxn`, `_`, `_xn`, `stale`
fn item(word: &str, items: &mut Vec<Item>) -> Result<(), String> {
    let bad = || format!("bad value {word:?}");
    let (body, times) = match word.rfind('x') {
        Some(at) if word[at + 1..].bytes().all(|b| b.is_ascii_digit()) && at + 1 < word.len() && at > 0 => {
            (&word[..at], Some(word[at + 1..].parse::<usize>().map_err(|_| bad())?))
        }
        _ => (word, None),
    };
    if body == "_" {
        items.extend(std::iter::repeat_n(Item::Omitted, times.unwrap_or(1)));
        return Ok(());
    }
    let repeats = times.unwrap_or(0) + 1;
    if body == "stale" {
        items.extend(std::iter::repeat_n(Item::Float(f64::from_bits(STALE_NAN_BITS)), repeats));
        return Ok(());
    }
    if let Ok(value) = number(body) {
        items.extend(std::iter::repeat_n(Item::Float(value), repeats));
        return Ok(());
    }
    // The sign that begins the difference is one that does not begin an exponent.
    let bytes = body.as_bytes();
    let cut = (1..bytes.len())
        .filter(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'))
        .find(|at| number(&body[..*at]).is_ok())
        .ok_or_else(bad)?;
    let (mut value, difference) = (number(&body[..cut])?, number(&body[cut..])?);
    for _ in 0..repeats {
        items.push(Item::Float(value));
        value += difference;
    }
    Ok(())
}
