//! Lookup: which series of a segment satisfy matchers, and which names and values a tenant's labels have.

use std::sync::Arc;

use roaring::RoaringBitmap;
use varve_model::{Matcher, TenantId, TimeRange};

use super::directory::Block;
use super::layout::Section;
use super::meta::TenantMeta;
use super::reader::Segment;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::index::Texts;
use crate::index::idset::{IdSet, Ids};
use crate::index::postings::{self, Place};
use crate::index::select::{TermSource, select};
use crate::index::terms::Terms;

/// One tenant's terms of one segment.
struct TenantTerms<'a> {
    segment: &'a Segment,
    meta: TenantMeta,
    block: Block,
    terms: Arc<Terms>,
}

/// What walking terms fails with: bytes that make no sense, or an error that says where.
enum Fault {
    Malformed(Malformed),
    Error(Error),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Fault {
        Fault::Malformed(malformed)
    }
}

impl TenantTerms<'_> {
    fn damaged(&self, malformed: Malformed) -> Error {
        self.segment.damaged(self.block.at, malformed.0)
    }

    fn fault(&self, fault: Fault) -> Error {
        match fault {
            Fault::Malformed(malformed) => self.damaged(malformed),
            Fault::Error(error) => error,
        }
    }

    fn add(&self, place: Place, into: &mut impl Ids) -> Result<()> {
        let ids = self.meta.first_series..self.meta.end_series();
        match place {
            Place::One(id) if ids.contains(&id) => {
                into.add(id);
                Ok(())
            }
            Place::Run { first, count } if ids.contains(&first) && count <= ids.end - first => {
                into.add_run(first, count);
                Ok(())
            }
            Place::List(address) => {
                let (block, payload, at) = self.segment.bytes(Section::Postings, address, 1)?;
                let list = payload.get(at..).unwrap_or_default();
                postings::decode(list, ids.end, into).map_err(|Malformed(what)| self.segment.damaged(block.at, what))
            }
            Place::One(_) | Place::Run { .. } => {
                Err(self.damaged(Malformed("postings name a series of another tenant")))
            }
        }
    }

    fn ids(&self, place: Place) -> Result<RoaringBitmap> {
        let mut ids = RoaringBitmap::new();
        self.add(place, &mut ids)?;
        Ok(ids)
    }
}

impl TenantTerms<'_> {
    /// Label names that some of the series have, sorted.
    fn names_of(&self, ids: &RoaringBitmap) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (name, place) in self.terms.names().map_err(|malformed| self.damaged(malformed))? {
            if !self.ids(place)?.is_disjoint(ids) {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Values of a label that some of the series have, all series without `ids`; sorted.
    fn values_of(&self, name: &str, ids: Option<&RoaringBitmap>) -> Result<Vec<String>> {
        let mut values = Vec::new();
        let walked = self.terms.each_value(name, &[], &mut |value, place| {
            let wanted = match (ids, place) {
                (None, _) => true,
                (Some(ids), Place::One(id)) => ids.contains(id),
                (Some(ids), place) => !self.ids(place).map_err(Fault::Error)?.is_disjoint(ids),
            };
            if wanted {
                values.push(value.to_owned());
            }
            Ok(())
        });
        walked.map_err(|fault| self.fault(fault))?;
        Ok(values)
    }
}

impl TermSource for TenantTerms<'_> {
    type Error = Error;

    fn all(&self) -> Result<RoaringBitmap> {
        let mut ids = RoaringBitmap::new();
        ids.insert_range(self.meta.first_series..self.meta.end_series());
        Ok(ids)
    }

    fn having(&self, name: &str, into: &mut RoaringBitmap) -> Result<()> {
        self.exact(name, "", into)
    }

    fn exact(&self, name: &str, value: &str, into: &mut RoaringBitmap) -> Result<()> {
        match self.terms.get(name, value).map_err(|malformed| self.damaged(malformed))? {
            Some(place) => self.add(place, into),
            None => Ok(()),
        }
    }

    fn scan(
        &self,
        name: &str,
        prefixes: &[&[u8]],
        wanted: &dyn Fn(&str) -> bool,
        into: &mut RoaringBitmap,
    ) -> Result<()> {
        let mut found = IdSet::new(self.meta.first_series..self.meta.end_series());
        for prefix in prefixes {
            let walked = self.terms.each_value(name, prefix, &mut |value, place| {
                if wanted(value) { self.add(place, &mut found).map_err(Fault::Error) } else { Ok(()) }
            });
            walked.map_err(|fault| self.fault(fault))?;
        }
        found.add_to(into);
        Ok(())
    }
}

impl Segment {
    /// The terms of a tenant; `None` when it has no series here or none in `range`.
    fn tenant_terms(&self, tenant: TenantId, range: TimeRange) -> Result<Option<TenantTerms<'_>>> {
        let Some((index, meta)) = self.tenant_meta(tenant, range) else { return Ok(None) };
        let (block, terms) = self.terms(index)?;
        Ok(Some(TenantTerms { segment: self, meta, block, terms }))
    }

    /// What is known of a tenant that has series here in `range`, and its place in the list of tenants.
    fn tenant_meta(&self, tenant: TenantId, range: TimeRange) -> Option<(usize, TenantMeta)> {
        let tenants = &self.meta().tenants;
        let index = tenants.binary_search_by_key(&tenant, |meta| meta.tenant).ok()?;
        tenants.get(index).filter(|meta| meta.range.overlaps(&range)).map(|meta| (index, *meta))
    }

    fn has(&self, tenant: TenantId, range: TimeRange) -> bool {
        self.tenant_meta(tenant, range).is_some()
    }

    /// The series at a place of a tenant's terms.
    pub(super) fn place_ids(&self, tenant: TenantId, place: Place) -> Result<RoaringBitmap> {
        match self.tenant_terms(tenant, TimeRange::ALL)? {
            Some(terms) => terms.ids(place),
            None => Ok(RoaringBitmap::new()),
        }
    }

    /// The series of a tenant that satisfy all matchers, ascending; they may have samples in `range`.
    pub fn select(&self, tenant: TenantId, matchers: &[Matcher], range: TimeRange) -> Result<Vec<u32>> {
        Ok(self.select_ids(tenant, matchers, range)?.iter().collect())
    }

    /// As [`Segment::select`], as a bitmap.
    pub fn select_ids(&self, tenant: TenantId, matchers: &[Matcher], range: TimeRange) -> Result<RoaringBitmap> {
        match self.tenant_terms(tenant, range)? {
            Some(terms) => select(&terms, matchers),
            None => Ok(RoaringBitmap::new()),
        }
    }

    /// Label names of a tenant's series that satisfy all matchers and may have samples in `range`, sorted.
    pub fn label_names(&self, tenant: TenantId, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>> {
        let Some(terms) = self.tenant_terms(tenant, range)? else { return Ok(Vec::new()) };
        if matchers.is_empty() {
            let names = terms.terms.names().map_err(|malformed| terms.damaged(malformed))?;
            return Ok(names.into_iter().map(|(name, _)| name).collect());
        }
        terms.names_of(&select(&terms, matchers)?)
    }

    /// Label names of some of a tenant's series, sorted.
    pub(crate) fn label_names_of(&self, tenant: TenantId, ids: &RoaringBitmap) -> Result<Vec<String>> {
        match self.tenant_terms(tenant, TimeRange::ALL)? {
            Some(terms) => terms.names_of(ids),
            None => Ok(Vec::new()),
        }
    }

    /// Values of a label of some of a tenant's series, sorted.
    pub(crate) fn label_values_of(&self, tenant: TenantId, name: &str, ids: &RoaringBitmap) -> Result<Vec<String>> {
        match self.tenant_terms(tenant, TimeRange::ALL)? {
            Some(terms) => terms.values_of(name, Some(ids)),
            None => Ok(Vec::new()),
        }
    }

    /// All label names of a tenant if it may have samples in `range`.
    pub(crate) fn all_label_names(&self, tenant: TenantId, range: TimeRange) -> Result<Arc<Texts>> {
        if !self.has(tenant, range) {
            return Ok(Arc::default());
        }
        self.texts(tenant, "", || {
            let names = self.label_names(tenant, &[], range)?;
            Ok(Texts::from_sorted(names.iter().map(String::as_str)))
        })
    }

    /// All values of a label of a tenant if it may have samples in `range`.
    pub(crate) fn all_label_values(&self, tenant: TenantId, name: &str, range: TimeRange) -> Result<Arc<Texts>> {
        // The empty name is the key of the list of names, and no label has it.
        if name.is_empty() || !self.has(tenant, range) {
            return Ok(Arc::default());
        }
        self.texts(tenant, name, || {
            let values = self.label_values(tenant, name, &[], range)?;
            Ok(Texts::from_sorted(values.iter().map(String::as_str)))
        })
    }

    /// Values of a label of a tenant's series that satisfy all matchers and may have samples in `range`, sorted.
    pub fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>> {
        let Some(terms) = self.tenant_terms(tenant, range)? else { return Ok(Vec::new()) };
        let ids = if matchers.is_empty() { None } else { Some(select(&terms, matchers)?) };
        terms.values_of(name, ids.as_ref())
    }
}
