//! Relabeling: rules that keep, drop and rewrite label sets of targets and of samples.

use varve_model::labels::METRIC_NAME;

use crate::config::NameScheme;
use crate::config::fields::{Fields, Problems};
use crate::regex::Regex;
use crate::yaml::Node;

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words of the configuration, explained in Prometheus's documentation")]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |(word, _)| word)
    }
}

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// What stands between them.
    pub separator: String,
    /// What the joined values must match.
    pub regex: Regex,
    /// Divisor of the hash.
    pub modulus: u64,
    /// The label that is written.
    pub target_label: String,
    /// What is written.
    pub replacement: String,
    /// What is done.
    pub action: Action,
    /// Which names are allowed.
    pub names: NameScheme,
}

const REGEX_DEFAULT: &str = "(.*)";
const SEPARATOR_DEFAULT: &str = ";";
const REPLACEMENT_DEFAULT: &str = "$1";

impl Rule {
    /// Reads a rule; [`Rule::check`] is called when the scheme of names is known.
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Rule> {
        let mut fields = Fields::new(node, "relabel.plain", problems);
        let source_labels = fields.texts("source_labels").unwrap_or_default();
        let separator = fields.find("separator").map(|node| match &node.value {
            crate::yaml::Value::Text { text, .. } => text.clone(),
            _ => SEPARATOR_DEFAULT.to_owned(),
        });
        let regex = match fields.get("regex") {
            Some(_) => fields.read("regex", Regex::new),
            None => Regex::new(REGEX_DEFAULT).ok(),
        };
        let modulus = fields.count("modulus").unwrap_or(0);
        let target_label = fields.text("target_label").unwrap_or_default();
        let replacement = fields.text("replacement").unwrap_or_else(|| REPLACEMENT_DEFAULT.to_owned());
        let action = match fields.get("action") {
            None => Some(Action::Replace),
            Some(_) => fields.read("action", |text| {
                let lower = text.to_lowercase();
                let found = ACTIONS.iter().find(|(word, _)| *word == lower).map(|(_, action)| *action);
                found.ok_or_else(|| format!("unknown relabel action {text:?}"))
            }),
        };
        fields.finish();
        Some(Rule {
            source_labels,
            separator: separator.unwrap_or_else(|| SEPARATOR_DEFAULT.to_owned()),
            regex: regex?,
            modulus,
            target_label,
            replacement,
            action: action?,
            names: NameScheme::Utf8,
        })
    }

    /// Checks what no single field can tell.
    pub(crate) fn check(&mut self, names: NameScheme) -> Result<(), String> {
        use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase};
        self.names = names;
        let action = self.action;
        let word = action.as_str();
        if self.modulus == 0 && action == HashMod {
            return Err("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        let writes = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if writes && self.target_label.is_empty() {
            return Err(format!("relabel configuration for {word} action requires 'target_label' value"));
        }
        let valid_target = if action == Replace && self.target_label.contains('$') {
            is_template(&self.target_label, names)
        } else {
            names.is_label_name(&self.target_label)
        };
        if writes && !valid_target {
            return Err(format!("{:?} is invalid 'target_label' for {word} action", self.target_label));
        }
        let plain_replacement = self.replacement == REPLACEMENT_DEFAULT;
        if matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual) && !plain_replacement {
            return Err(format!("'replacement' can not be set for {word} action"));
        }
        if action == LabelMap && !is_template(&self.replacement, names) {
            return Err(format!("{:?} is invalid 'replacement' for {word} action", self.replacement));
        }
        let others_unset = self.modulus == 0 && self.separator == SEPARATOR_DEFAULT && plain_replacement;
        if matches!(action, DropEqual | KeepEqual) && !(others_unset && self.regex.pattern() == REGEX_DEFAULT) {
            return Err(format!("{word} action requires only 'source_labels' and `target_label`, and no other fields"));
        }
        let only_regex = others_unset && self.source_labels.is_empty() && self.target_label.is_empty();
        if matches!(action, LabelDrop | LabelKeep) && !only_regex {
            return Err(format!("{word} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }

    /// The rule as Prometheus prints it.
    pub(crate) fn print(&self) -> Node {
        let mut out: Vec<(String, Node)> = Vec::new();
        let mut push = |name: &str, node: Node| out.push((name.to_owned(), node));
        if !self.source_labels.is_empty() {
            push("source_labels", Node::flow(&self.source_labels));
        }
        push("separator", Node::text(&self.separator));
        if self.regex.pattern() != REGEX_DEFAULT {
            push("regex", Node::text(self.regex.pattern()));
        }
        if self.modulus != 0 {
            push("modulus", Node::plain(self.modulus.to_string()));
        }
        if !self.target_label.is_empty() {
            push("target_label", Node::text(&self.target_label));
        }
        push("replacement", Node::text(&self.replacement));
        push("action", Node::text(self.action.as_str()));
        Node::map(out)
    }

    /// Applies the rule; false means that the label set is dropped.
    fn apply(&self, labels: &mut LabelMap) -> bool {
        let mut value = String::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(labels.get(name));
        }
        match self.action {
            Action::Keep => return self.regex.is_match(&value),
            Action::Drop => return !self.regex.is_match(&value),
            Action::KeepEqual => return labels.get(&self.target_label) == value,
            Action::DropEqual => return labels.get(&self.target_label) != value,
            Action::Replace => {
                let Some(captures) = self.regex.captures(&value) else { return true };
                let target = self.regex.expand(&self.target_label, &value, &captures);
                if self.names.is_label_name(&target) {
                    labels.set(&target, &self.regex.expand(&self.replacement, &value, &captures));
                }
            }
            Action::Lowercase => labels.set(&self.target_label, &value.to_lowercase()),
            Action::Uppercase => labels.set(&self.target_label, &value.to_uppercase()),
            Action::HashMod => {
                let digest = md5::compute(value.as_bytes()).0;
                let low = digest.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                labels.set(&self.target_label, &low.checked_rem(self.modulus).unwrap_or(0).to_string());
            }
            Action::LabelMap => {
                let before = labels.clone();
                for (name, value) in before.iter() {
                    if let Some(captures) = self.regex.captures(name) {
                        labels.set(&self.regex.expand(&self.replacement, name, &captures), value);
                    }
                }
            }
            Action::LabelDrop => labels.retain(|name| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.regex.is_match(name)),
        }
        true
    }
}

/// Whether a text with references to groups can become a label name.
fn is_template(text: &str, names: NameScheme) -> bool {
    if names == NameScheme::Utf8 {
        return names.is_label_name(text);
    }
    // References count as letters.
    let Ok(pattern) = Regex::new(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+") else { return false };
    pattern.is_match(text)
}

/// Applies rules in order; false means that the label set is dropped.
pub fn apply(rules: &[Rule], labels: &mut LabelMap) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// A label set that is being made: sorted by name, no empty value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LabelMap(Vec<(String, String)>);

impl LabelMap {
    /// No label; keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The value of a label, or nothing.
    pub fn get(&self, name: &str) -> &str {
        match self.find(name) {
            Ok(at) => self.0.get(at).map_or("", |(_, value)| value.as_str()),
            Err(_) => "",
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        match (self.find(name), value.is_empty()) {
            (Ok(at), true) => {
                self.0.remove(at);
            }
            (Ok(at), false) => {
                if let Some((_, known)) = self.0.get_mut(at) {
                    value.clone_into(known);
                }
            }
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, (name.to_owned(), value.to_owned())),
        }
    }

    /// Keeps the labels whose name is wanted.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }

    /// Names and values in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The metric name, or nothing.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for LabelMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> LabelMap {
        let mut map = LabelMap::default();
        for (name, value) in labels {
            map.set(name.as_ref(), value.as_ref());
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn rules(text: &str) -> Result<Vec<Rule>, String> {
        let problems = Problems::default();
        let yaml::Value::List(nodes) = yaml::parse(text)?.value else { return Err("no list".to_owned()) };
        let rules: Vec<Rule> = nodes.iter().filter_map(|node| Rule::read(node, &problems)).collect();
        problems.result()?;
        rules.into_iter().map(|mut rule| rule.check(NameScheme::Utf8).map(|()| rule)).collect()
    }

    /// `a=1,b=2` through rules; `None` is dropped.
    fn relabel(labels: &str, text: &str) -> Option<String> {
        let mut map: LabelMap = labels.split(',').filter_map(|label| label.split_once('=')).collect();
        let kept = apply(&rules(text).unwrap(), &mut map);
        let labels: Vec<String> = map.iter().map(|(name, value)| format!("{name}={value}")).collect();
        kept.then(|| labels.join(","))
    }

    #[test]
    fn each_action_does_what_prometheus_does() {
        let table = [
            // Replace, with its defaults, groups and names from groups.
            (
                "a=foo,b=bar",
                "[{source_labels: [a], regex: f(.*), target_label: d, replacement: 'ch${1}-ch${1}'}]",
                Some("a=foo,b=bar,d=choo-choo"),
            ),
            ("a=foo", "[{source_labels: [a], target_label: b}]", Some("a=foo,b=foo")),
            ("a=foo", "[{source_labels: [a, b], target_label: c}]", Some("a=foo,c=foo;")),
            ("a=foo", "[{source_labels: [a], regex: x, target_label: c}]", Some("a=foo")),
            ("a=foo", "[{source_labels: [a], target_label: a, replacement: ''}]", Some("")),
            ("a=foo", "[{target_label: b, replacement: x}]", Some("a=foo,b=x")),
            (
                "a=k:v",
                "[{source_labels: [a], regex: '(.):(.)', target_label: 'l_$1', replacement: $2}]",
                Some("a=k:v,l_k=v"),
            ),
            ("a=foo", "[{source_labels: [a], regex: o, target_label: b, replacement: x}]", Some("a=foo")),
            (
                "a=f\u{e9}",
                "[{source_labels: [a], separator: '', regex: '(.)(.)', target_label: b, replacement: $2$1}]",
                Some("a=f\u{e9},b=\u{e9}f"),
            ),
            // Keep and drop.
            ("a=foo", "[{source_labels: [a], regex: f.o, action: keep}]", Some("a=foo")),
            ("a=foo", "[{source_labels: [a], regex: f, action: keep}]", None),
            ("a=foo", "[{source_labels: [a], regex: foo|bar, action: drop}]", None),
            ("a=foo", "[{source_labels: [a], regex: 'f|fo', action: drop}]", Some("a=foo")),
            ("a=x,b=x", "[{source_labels: [a], target_label: b, action: keepequal}]", Some("a=x,b=x")),
            ("a=x,b=y", "[{source_labels: [a], target_label: b, action: keepequal}]", None),
            ("a=x,b=x", "[{source_labels: [a], target_label: b, action: dropequal}]", None),
            ("a=x,b=y", "[{source_labels: [a], target_label: b, action: DropEqual}]", Some("a=x,b=y")),
            // Hashes: the low eight bytes of MD5.
            (
                "a=foo,b=bar,c=baz",
                "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
                Some("a=foo,b=bar,c=baz,d=976"),
            ),
            (
                "a=foo\nbar",
                "[{source_labels: [a], target_label: b, action: hashmod, modulus: 1000}]",
                Some("a=foo\nbar,b=734"),
            ),
            // Names.
            ("a=foo,b1=bar,b2=baz", "[{regex: b.*, action: labeldrop}]", Some("a=foo")),
            ("a=foo,b1=bar,b2=baz", "[{regex: b.*, action: labelkeep}]", Some("b1=bar,b2=baz")),
            (
                "meta_a=foo,meta_b=x",
                "[{regex: meta_(.*), action: labelmap, replacement: 'n_$1'}]",
                Some("meta_a=foo,meta_b=x,n_a=foo,n_b=x"),
            ),
            (
                "a=Foo",
                "[{source_labels: [a], target_label: b, action: uppercase}, {source_labels: [a], target_label: c, action: lowercase}]",
                Some("a=Foo,b=FOO,c=foo"),
            ),
            // A dropped set is dropped whatever follows.
            ("a=1", "[{source_labels: [a], regex: 1, action: drop}, {target_label: b, replacement: x}]", None),
        ];
        for (labels, rules, expected) in table {
            assert_eq!(relabel(labels, rules).as_deref(), expected, "{labels} {rules}");
        }
    }

    #[test]
    fn wrong_rules_are_refused_as_in_prometheus() {
        for (text, what) in [
            ("[{action: nosuch}]", "unknown relabel action \"nosuch\""),
            ("[{action: hashmod, target_label: a}]", "requires non-zero modulus"),
            ("[{source_labels: [a]}]", "relabel configuration for replace action requires 'target_label' value"),
            (
                "[{action: lowercase, target_label: a, replacement: b}]",
                "'replacement' can not be set for lowercase action",
            ),
            ("[{action: labeldrop, regex: a, source_labels: [b]}]", "labeldrop action requires only 'regex'"),
            ("[{action: keepequal, target_label: a, regex: b}]", "keepequal action requires only 'source_labels'"),
            ("[{target_label: a, regex: '('}]", "line 1: error parsing regexp"),
            ("[{target_labl: a}]", "line 1: field target_labl not found in type relabel.plain"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
        let mut rule = rules("[{target_label: a.b, replacement: x}]").unwrap().remove(0);
        assert!(rule.check(NameScheme::Legacy).unwrap_err().contains("\"a.b\" is invalid 'target_label'"));
        rule.target_label = "a_${1}_$2".to_owned();
        assert_eq!(rule.check(NameScheme::Legacy), Ok(()));
    }
}
