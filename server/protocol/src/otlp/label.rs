//! Labels of a data point: its attributes, what the resource and the scope add, in Prometheus's order of precedence.

use std::borrow::Cow;

use varve_model::labels::{METRIC_NAME, push_label, split_label};
use varve_model::write::WriteSeries;
use varve_model::{SeriesHash, WriteBatch};

use super::name::LabelNames;
use super::value::{self, utf8};
use super::{Promote, Settings};
use crate::Error;
use crate::budget::Budget;
use crate::protobuf::{Reader, Value};

/// Names with their values, each name once, no empty value.
#[derive(Clone, Default, Debug)]
pub(super) struct LabelSet<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> LabelSet<'a> {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes of all names and values.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Sets a label; an empty value removes it.
    pub(super) fn set(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        let place = self.0.iter().position(|(n, _)| *n == name);
        match place {
            Some(place) if value.is_empty() => {
                self.0.remove(place);
            }
            Some(place) => {
                if let Some((_, old)) = self.0.get_mut(place) {
                    *old = value;
                }
            }
            None if value.is_empty() => {}
            None => self.0.push((name, value)),
        }
    }

    /// Adds attributes, in order of their names. Where two get one name their values are joined.
    pub(super) fn add(&mut self, mut attributes: Attributes<'a>, names: LabelNames) -> Result<(), &'static str> {
        attributes.sort_by_key(|(name, _)| *name);
        for (name, value) in attributes {
            let name = names.of(name)?;
            let before = self.0.iter_mut().find(|(n, _)| names.escapes && *n == name);
            match before {
                Some((_, before)) => *before = format!("{before};{value}").into(),
                None => self.set(name, value),
            }
        }
        Ok(())
    }
}

/// Attributes as sent, their values as text.
pub(super) type Attributes<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Attributes (`KeyValue`) in the fields `number` of a message. The inner error says why they cannot be labels.
pub(super) fn attributes<'a>(
    mut message: Reader<'a>,
    number: u32,
    count_max: usize,
) -> Result<Result<Attributes<'a>, &'static str>, Error> {
    let mut found = Vec::new();
    while let Some(field) = message.field()? {
        if field.number != number {
            continue;
        }
        let Value::Bytes(pair) = field.value else { return Err(message.malformed("attribute with a wrong type")) };
        if found.len() >= count_max {
            return Ok(Err("more attributes than `labels_per_series_max` allows labels"));
        }
        let (key, value) = value::key_value(pair)?;
        found.push((key, value.map_or(Ok("".into()), value::text)?));
    }
    Ok(Ok(found))
}

/// What a resource gives to its series.
#[derive(Default)]
pub(super) struct Resource<'a> {
    job: Cow<'a, str>,
    instance: Cow<'a, str>,
    promoted: LabelSet<'a>,
    /// Labels of `target_info`.
    pub(super) info: LabelSet<'a>,
    /// Whether there is a `target_info`: something that identifies it, and something to tell.
    pub(super) is_told: bool,
}

const NAMESPACE: &str = "service.namespace";
const NAME: &str = "service.name";
const INSTANCE: &str = "service.instance.id";

impl<'a> Resource<'a> {
    pub(super) fn read(
        message: Option<Reader<'a>>,
        settings: &Settings,
        names: LabelNames,
        attributes_max: usize,
    ) -> Result<Result<Resource<'a>, &'static str>, Error> {
        let Some(message) = message else { return Ok(Ok(Resource::default())) };
        Ok(attributes(message, 1, attributes_max)?.and_then(|all| Resource::of(all, settings, names)))
    }

    fn of(all: Attributes<'a>, settings: &Settings, names: LabelNames) -> Result<Resource<'a>, &'static str> {
        let get = |wanted: &str| all.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone());
        let job = match (get(NAME), get(NAMESPACE)) {
            (Some(name), Some(namespace)) => format!("{namespace}/{name}").into(),
            (Some(name), None) => name,
            (None, _) => "".into(),
        };
        let mut resource = Resource { job, instance: get(INSTANCE).unwrap_or_default(), ..Resource::default() };
        for (name, value) in &all {
            let is_promoted = match &settings.promote {
                Promote::Some(these) => these.iter().any(|this| this == name),
                Promote::AllBut(these) => !these.iter().any(|this| this == name),
            };
            if is_promoted {
                resource.promoted.set(names.of(name)?, value.clone());
            }
        }
        let identifies = |name: &str| [NAMESPACE, NAME, INSTANCE].contains(&name);
        let has_more = all.iter().any(|(name, _)| !identifies(name));
        resource.is_told = has_more && !(resource.job.is_empty() && resource.instance.is_empty());
        if resource.is_told {
            let told = all.into_iter().filter(|(name, _)| settings.keep_identifying || !identifies(name));
            resource.info.add(told.collect(), names)?;
            resource.identify();
        }
        Ok(resource)
    }

    fn identify(&mut self) {
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                self.info.set(name.into(), value.clone());
            }
        }
    }

    /// Adds what every series of the resource has: its own labels only where the data point has none of the name.
    pub(super) fn add_to(&self, labels: &mut LabelSet<'a>) {
        for (name, value) in &self.promoted.0 {
            if !labels.has(name) {
                labels.set(name.clone(), value.clone());
            }
        }
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                labels.set(name.into(), value.clone());
            }
        }
    }
}

/// `ScopeMetrics { scope = 1 { name = 1, version = 2, attributes = 3 }, schema_url = 3 }` as labels.
pub(super) fn read_scope<'a>(
    mut message: Reader<'a>,
    labels: &mut LabelSet<'a>,
    names: LabelNames,
    attributes_max: usize,
) -> Result<Result<(), &'static str>, Error> {
    let (mut scope, mut schema) = (None, "");
    while let Some(field) = message.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(inner)) => scope = Some(inner),
            (3, Value::Bytes(text)) => schema = utf8(text)?,
            (1 | 3, _) => return Err(message.malformed("field of ScopeMetrics with a wrong type")),
            _ => {}
        }
    }
    let Some(scope) = scope else { return Ok(Ok(())) };
    let (mut name, mut version, mut fields) = ("", "", scope);
    while let Some(field) = fields.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => name = utf8(text)?,
            (2, Value::Bytes(text)) => version = utf8(text)?,
            (1 | 2, _) => return Err(fields.malformed("field of InstrumentationScope with a wrong type")),
            _ => {}
        }
    }
    if name.is_empty() {
        return Ok(Ok(()));
    }
    let all = match attributes(scope, 3, attributes_max)? {
        Ok(all) => all,
        Err(what) => return Ok(Err(what)),
    };
    for (key, value) in all {
        match names.of(&format!("otel_scope_{key}")) {
            Ok(name) => labels.set(name.into_owned().into(), value),
            Err(what) => return Ok(Err(what)),
        }
    }
    for (label, value) in
        [("otel_scope_name", name), ("otel_scope_version", version), ("otel_scope_schema_url", schema)]
    {
        labels.set(label.into(), value.into());
    }
    Ok(Ok(()))
}

/// Writes a series with these labels, a name and perhaps one label more, which take the place of labels so named.
pub(super) fn push_series(
    batch: &mut WriteBatch,
    budget: &mut Budget,
    labels: &LabelSet<'_>,
    name: &str,
    extra: Option<(&str, &str)>,
) -> Result<(), Error> {
    let begin = batch.bytes.len() as u32;
    let mut hash = SeriesHash::EMPTY;
    let mut push = |name: &str, value: &str| {
        budget.spend(12 + name.len() + value.len())?;
        let at = batch.bytes.len();
        push_label(&mut batch.bytes, name.as_bytes(), value.as_bytes());
        if let Some((body, _)) = batch.bytes.get(at..).and_then(split_label) {
            hash.add_body(body);
        }
        Ok(())
    };
    push(METRIC_NAME, name)?;
    if let Some((name, value)) = extra {
        push(name, value)?;
    }
    let taken = |label: &str| label == METRIC_NAME || extra.is_some_and(|(name, _)| name == label);
    for (name, value) in labels.0.iter().filter(|(name, _)| !taken(name)) {
        push(name, value)?;
    }
    let (samples, histograms) = (batch.times.len() as u32, batch.histograms.len() as u32);
    let labels = begin..batch.bytes.len() as u32;
    batch.series.push(WriteSeries { labels, hash, samples: samples..samples, histograms: histograms..histograms });
    Ok(())
}
