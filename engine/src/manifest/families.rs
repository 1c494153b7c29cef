//! Families: metadata of one tenant's metric families, and how many bytes its texts take.
//!
//! It stays in memory and is written again with every snapshot of the manifest, so it is bounded three times: a family,
//! a tenant, and all tenants. What is beyond a bound is left out, and said again by its sender.

use std::collections::BTreeMap;

use varve_model::write::Metadata;
use varve_model::{Limits, TenantId};

use super::Edit;

/// Metadata of one tenant by family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Families {
    by_name: BTreeMap<String, Metadata>,
    /// Of all texts.
    bytes: u64,
}

/// Bytes of the texts of one family.
pub(super) fn text_bytes(metadata: &Metadata) -> usize {
    metadata.family.len() + metadata.help.len() + metadata.unit.len()
}

impl Families {
    /// Keeps metadata; the last one of a family.
    pub(crate) fn put(&mut self, metadata: Metadata) {
        self.bytes += text_bytes(&metadata) as u64;
        if let Some(old) = self.by_name.insert(metadata.family.clone(), metadata) {
            self.bytes -= text_bytes(&old) as u64;
        }
    }

    /// In order of names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Metadata> {
        self.by_name.values()
    }

    fn says(&self, metadata: &Metadata) -> bool {
        self.by_name.get(&metadata.family) == Some(metadata)
    }
}

/// The edits that keep `metadata` of a tenant, as far as the limits allow, and how many families are left out.
pub(crate) fn edits(
    all: &BTreeMap<TenantId, Families>,
    tenant: TenantId,
    metadata: &[Metadata],
    limits: &Limits,
) -> (Vec<Edit>, u64) {
    let none = Families::default();
    let known = all.get(&tenant).unwrap_or(&none);
    // Nearly always nothing is new.
    if metadata.iter().all(|metadata| known.says(metadata)) {
        return (Vec::new(), 0);
    }
    let total: u64 = all.values().map(|families| families.bytes).sum();
    let room = limits.metadata_bytes_per_tenant_max.saturating_sub(known.bytes);
    let mut room = room.min(limits.metadata_bytes_max.saturating_sub(total));
    let mut families = (limits.metadata_per_tenant_max as usize).saturating_sub(known.by_name.len());
    // Of a family that is there twice the last one counts, and once.
    let last: BTreeMap<&str, &Metadata> =
        metadata.iter().map(|metadata| (metadata.family.as_str(), metadata)).collect();
    let (mut edits, mut left_out) = (Vec::new(), 0);
    for (family, metadata) in last.into_iter().filter(|(_, metadata)| !known.says(metadata)) {
        let old = known.by_name.get(family);
        let bytes = text_bytes(metadata) as u64;
        let with_old = room + old.map_or(0, text_bytes) as u64;
        let is_new = usize::from(old.is_none());
        if bytes > u64::from(limits.metadata_bytes_per_family_max) || bytes > with_old || is_new > families {
            left_out += 1;
            continue;
        }
        room = with_old - bytes;
        families -= is_new;
        edits.push(Edit::Metadata { tenant, metadata: metadata.clone() });
    }
    (edits, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TenantId = TenantId(1);

    fn say(family: &str, help_bytes: usize) -> Metadata {
        Metadata { family: family.to_owned(), help: "h".repeat(help_bytes), ..Metadata::default() }
    }

    /// Puts what the limits allow; how many were left out, and the bytes of the tenant and of all.
    fn put(all: &mut BTreeMap<TenantId, Families>, tenant: TenantId, said: &[Metadata]) -> (u64, u64, u64) {
        let limits = Limits {
            metadata_per_tenant_max: 3,
            metadata_bytes_per_family_max: 100,
            metadata_bytes_per_tenant_max: 150,
            metadata_bytes_max: 200,
            ..Limits::default()
        };
        let (edits, left_out) = edits(all, tenant, said, &limits);
        for edit in edits {
            let Edit::Metadata { tenant, metadata } = edit else { panic!("{edit:?}") };
            all.entry(tenant).or_default().put(metadata);
        }
        for families in all.values() {
            assert_eq!(families.bytes, families.iter().map(|metadata| text_bytes(metadata) as u64).sum::<u64>());
        }
        let bytes = |tenant| all.get(&tenant).map_or(0, |families| families.bytes);
        (left_out, bytes(tenant), all.values().map(|families| families.bytes).sum())
    }

    #[test]
    fn a_family_a_tenant_and_all_are_bounded() {
        let mut all = BTreeMap::new();
        assert_eq!(put(&mut all, T, &[say("a", 99), say("b", 100), say("c", 9)]), (1, 110, 110));
        assert_eq!(put(&mut all, T, &[say("a", 99), say("c", 9)]), (0, 110, 110), "nothing new");
        assert_eq!(put(&mut all, T, &[say("d", 40)]), (1, 110, 110), "beyond the tenant's bytes");
        assert_eq!(put(&mut all, T, &[say("d", 39)]), (0, 150, 150));
        assert_eq!(put(&mut all, T, &[say("d", 49), say("d", 9)]), (0, 120, 120), "the last one, once");
        assert_eq!(put(&mut all, T, &[say("e", 0)]), (1, 120, 120), "beyond the number of families");
        assert_eq!(put(&mut all, TenantId(2), &[say("a", 79)]), (0, 80, 200));
        assert_eq!(put(&mut all, TenantId(2), &[say("b", 0)]), (1, 80, 200), "beyond the bytes of all");
        // What is there twice does not make room twice.
        assert_eq!(put(&mut all, T, &[say("a", 9), say("a", 9), say("c", 99)]), (0, 10 + 100 + 10, 200));
    }
}
