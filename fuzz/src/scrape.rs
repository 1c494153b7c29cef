//! Targets of what scraping reads: bodies of targets in every format, and the configuration.

use varve_agent::config::{Config, Features};
use varve_model::Labels;
use varve_model::labels::push_label;
use varve_protocol::scrape::{Media, Options, Part, Sample, Value, Visitor, labels_of, read};

/// Holds each sample against what a scraper relies on.
#[derive(Default)]
struct Strict {
    samples: Vec<String>,
}

impl Visitor for Strict {
    fn metadata(&mut self, _: &str, _: Part<'_>) {}

    fn sample(&mut self, sample: Sample<'_>) -> Result<(), String> {
        let mut pairs = Vec::new();
        if let Err(what) = labels_of(sample.series, sample.kind, &mut pairs) {
            // Texts that are not UTF-8 in a body that is not.
            assert!(what.contains("UTF-8"), "{what}");
            return Err(what);
        }
        assert!(!sample.series.is_empty());
        let mut bytes = Vec::new();
        for (name, value) in &pairs {
            push_label(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        // A name that is empty or there twice is left to the scraper.
        let _ = Labels::from_label_bytes(&bytes);
        if let Value::Histogram(histogram) = &sample.value {
            let buckets =
                |spans: &[varve_model::histogram::Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
            assert_eq!(buckets(&histogram.positive_spans), histogram.positive.len());
            assert_eq!(buckets(&histogram.negative_spans), histogram.negative.len());
        }
        self.samples.push(format!("{pairs:?} {:?} {:?} {:?}", sample.value, sample.time, sample.exemplars));
        Ok(())
    }
}

/// A body in each format, with each option.
pub fn scrape(data: &[u8]) {
    for media in [Media::Text, Media::OpenMetrics, Media::Protobuf] {
        for bits in 0..8 {
            let options =
                Options { native_histograms: bits & 1 > 0, classic_too: bits & 2 > 0, to_custom_buckets: bits & 4 > 0 };
            let of = || {
                let mut strict = Strict::default();
                let result = read(data, media, options, &mut strict);
                (result, strict.samples)
            };
            assert_eq!(of(), of(), "the same bytes say the same");
        }
    }
}

/// A configuration file. What is accepted is printed, and read again as the same.
pub fn scrape_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = Config::parse(text, Features::default()) else { return };
    let printed = config.print();
    match Config::parse(&printed, Features::default()) {
        Ok(again) => assert_eq!(again.print(), printed),
        Err(error) => panic!("what is printed is not read: {error}\n{printed}"),
    }
}
