//! Verify: reads every byte of a segment and checks that it says what the rest says.
//!
//! Blocks tile the file; every checksum holds; every table decodes; every series' labels are sorted and ascend; every
//! chunk decodes to the count of its time column; every term leads to the series that carry it, no more, no fewer.

use std::cmp::Ordering;

use varve_model::{Column, Labels, TenantId, TimeRange};

use super::exemplars::Entry;
use super::layout::{HEADER_BYTES, Section};
use super::meta::{EMPTY, ExemplarMeta, join};
use super::reader::{ReadScratch, Segment};
use crate::codec::Malformed;
use crate::error::Error;
use crate::index::terms::TermsBuilder;
use crate::status::Damage;

impl Segment {
    /// Everything that is damaged; empty when the segment is whole. An error of the disk counts as damage here.
    pub fn verify(&self) -> Vec<Damage> {
        let mut found = Vec::new();
        self.verify_blocks(&mut found);
        if found.is_empty() {
            self.verify_content(&mut found);
        }
        found
    }

    fn report(&self, found: &mut Vec<Damage>, error: Error) {
        let (at, what) = match error {
            Error::Damaged { at, what, .. } => (at, what),
            other => (0, other.to_string()),
        };
        let damage = Damage { path: self.path().to_owned(), at, what };
        if !found.contains(&damage) {
            found.push(damage);
        }
    }

    fn verify_blocks(&self, found: &mut Vec<Damage>) {
        let mut blocks = Vec::new();
        for section in Section::ALL {
            for block in self.directory.blocks(section) {
                blocks.push(*block);
                match self.load(*block) {
                    Ok(payload) => {
                        if section.is_bytes() && payload.len() as u64 != block.units {
                            self.report(found, self.damaged(block.at, "block has another count than its units"));
                        }
                    }
                    Err(error) => self.report(found, error),
                }
            }
        }
        blocks.sort_unstable_by_key(|block| block.at);
        let mut end = HEADER_BYTES as u64;
        for block in blocks {
            if block.at != end {
                self.report(found, self.damaged(end, "bytes that belong to no block, or to two"));
            }
            end = block.at.saturating_add(u64::from(block.bytes));
        }
    }

    fn verify_content(&self, found: &mut Vec<Damage>) {
        if let Err(error) = self.verify_exemplars() {
            self.report(found, error);
        }
        let mut scratch = ReadScratch::transient();
        let mut column = Column::default();
        for (index, tenant) in self.meta().tenants.iter().enumerate() {
            let mut builder = TermsBuilder::default();
            let mut before: Option<Labels> = None;
            let (mut samples, mut range) = (0u64, EMPTY);
            for series in tenant.first_series..tenant.end_series() {
                column.clear();
                match self.read_with(&mut scratch, series, TimeRange::ALL, &mut column) {
                    Ok(()) => {
                        samples += column.len() as u64;
                        let ascending =
                            column.times.is_sorted_by(|a, b| a < b) && column.histograms.is_sorted_by(|a, b| a.0 < b.0);
                        if !ascending || column.is_empty() {
                            self.report(found, self.damaged(0, &format!("samples of series {series} do not ascend")));
                        }
                        let both = column.times.iter().copied().chain(column.histograms.iter().map(|(time, _)| *time));
                        for time in both {
                            range = join(range, TimeRange { min: time, max: time });
                        }
                    }
                    Err(error) => self.report(found, error),
                }
                match self.labels_with(&mut scratch, series) {
                    Ok(labels) => {
                        if before.as_ref().is_some_and(|before| *before >= labels) {
                            self.report(found, self.damaged(0, &format!("series {series} is out of order")));
                        }
                        builder.add(series, &labels);
                        before = Some(labels);
                    }
                    Err(error) => self.report(found, error),
                }
            }
            if found.is_empty() && (samples != tenant.samples || range != tenant.range) {
                let what = format!("tenant {} has other samples than the directory says", tenant.tenant.0);
                self.report(found, self.damaged(0, &what));
            }
            if found.is_empty()
                && let Err(error) = self.verify_terms(index, tenant.tenant, builder)
            {
                self.report(found, error);
            }
        }
    }

    /// Compares the exemplars with what the directory says of them.
    fn verify_exemplars(&self) -> crate::Result<()> {
        let mut found: Vec<ExemplarMeta> = Vec::new();
        let mut before: Option<Entry> = None;
        let wrong = |at: u64, what: &str| self.damaged(at, what);
        for (index, block) in self.directory.blocks(Section::Exemplars).iter().enumerate() {
            let entries = self.exemplar_block(index)?.unwrap_or_default();
            if entries.len() as u64 != block.units {
                return Err(wrong(block.at, "block has another count than the directory says"));
            }
            for entry in entries {
                // The same series again is where the entry before left off.
                let behind = |before: &Entry| {
                    let ends = before.exemplars.last().zip(entry.exemplars.first());
                    let goes_on = ends.is_some_and(|(last, first)| last.order(first).is_lt());
                    match (before.tenant, &before.labels).cmp(&(entry.tenant, &entry.labels)) {
                        Ordering::Less => true,
                        Ordering::Equal => goes_on,
                        Ordering::Greater => false,
                    }
                };
                if !before.as_ref().is_none_or(behind) || entry.exemplars.is_empty() {
                    return Err(wrong(block.at, "series of exemplars are out of order or empty"));
                }
                let range = entry.exemplars.iter().map(|exemplar| TimeRange { min: exemplar.time, max: exemplar.time });
                let range = range.fold(EMPTY, join);
                let count = entry.exemplars.len() as u64;
                match found.last_mut() {
                    Some(last) if last.tenant == entry.tenant => {
                        last.exemplars += count;
                        last.range = join(last.range, range);
                    }
                    _ => found.push(ExemplarMeta { tenant: entry.tenant, exemplars: count, range }),
                }
                before = Some(entry);
            }
        }
        if found == self.meta().exemplars {
            Ok(())
        } else {
            Err(wrong(0, "there are other exemplars than the directory says"))
        }
    }

    /// Compares the tenant's terms with those that its series have.
    fn verify_terms(&self, index: usize, tenant: TenantId, builder: TermsBuilder) -> crate::Result<()> {
        let (block, terms) = self.terms(index)?;
        let mut expected = builder.expected();
        let wrong = || self.damaged(block.at, "term dictionary does not agree with the series");
        if terms.len() != expected.len() {
            return Err(wrong());
        }
        let mut ids = Vec::new();
        let mut failed = None;
        let walked = terms.each(|key, place| {
            let same = expected.next().is_some_and(|(name, list)| {
                list.ids(&mut ids);
                match self.place_ids(tenant, place) {
                    Ok(found) => name == key && found.iter().eq(ids.iter().copied()),
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                }
            });
            if same { Ok(()) } else { Err(Malformed("differs")) }
        });
        match (walked, failed) {
            (_, Some(error)) => Err(error),
            (Err(_), None) => Err(wrong()),
            (Ok(()), None) => Ok(()),
        }
    }
}
