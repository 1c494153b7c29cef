//! Seeds of what is on disk, written by the real writers on a simulated disk.

use std::path::Path;

use varve_engine::DeletionSpec;
use varve_engine::manifest::edit::{Edit, SegmentEntry, encode};
use varve_engine::segment::{SegmentHeader, SegmentWriter};
use varve_fuzz::{SALT, records_of, small_log};
use varve_model::write::{Metadata, MetricType};
use varve_model::{Column, Labels, MatchOp, Matcher, STALE_NAN_BITS, TenantId, TenantName, TimeRange};
use varve_vfs::Nanos;
use varve_vfs::sim::{SimClock, SimVfs};

use super::{Seed, floats, histograms, rich, seed};

/// A log file with three batches and a mark.
pub(super) fn log_files() -> Vec<Seed> {
    let (disk, path) = small_log();
    let bytes = disk.files().into_iter().find(|(found, _)| *found == path).expect("the log file").1;
    vec![seed("three", bytes)]
}

/// The batches of that file, without the file: salted anew by the target, which makes their checksums right.
pub(super) fn batches() -> Vec<Seed> {
    let file = log_files().remove(0).1;
    let mut batches = Vec::new();
    let mut rest = &file[64..];
    while let Some(bytes) = rest.get(4..8).filter(|_| rest.len() > 128) {
        let bytes = 64 + (u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize).next_multiple_of(8);
        if rest[..64].iter().all(|byte| *byte == 0) {
            break;
        }
        batches.extend_from_slice(&rest[..bytes]);
        rest = &rest[bytes..];
    }
    let seed_of_salt = crc32fast::hash(&SALT.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(seed_of_salt);
    hasher.update(&batches[4..60]);
    let header_crc = hasher.finalize().to_le_bytes();
    batches[60..64].copy_from_slice(&header_crc);
    vec![seed("three", batches)]
}

/// Two tenants, floats, stale markers and histograms.
pub(super) fn segments() -> Vec<Seed> {
    let disk = SimVfs::new(3);
    let env = disk.env(&SimClock::new(Nanos(0)), 5);
    let path = Path::new("/segments/1");
    env.vfs.create_dir(Path::new("/segments")).expect("a directory");
    let header = SegmentHeader { id: 9, partition: 1, level: 0, first: 10, last: 20 };
    let mut writer = SegmentWriter::create(&env, path, header).expect("a file");
    let times: Vec<_> = (0..30).map(|i| 1_790_000_000_000 + i * 15_000).collect();
    let values: Vec<_> = (0..30).map(|i| f64::from(i) * 0.5).collect();
    let floats = Column { times: times.clone(), values: values.clone(), histograms: Vec::new(), ..Column::default() };
    let stale =
        Column { times: times[..2].to_vec(), values: vec![1.0, f64::from_bits(STALE_NAN_BITS)], ..Column::default() };
    let mixed =
        Column { times: times[..1].to_vec(), values: vec![2.0], histograms: histograms(times[1]), ..Column::default() };
    for (tenant, labels, column) in [
        (1, Labels::from([("__name__", "h"), ("job", "varve")]), &mixed),
        (1, Labels::from([("__name__", "up"), ("a", "x"), ("job", "b")]), &floats),
        (1, Labels::from([("__name__", "up"), ("instance", "host-1"), ("job", "varve")]), &floats),
        (2, Labels::from([("__name__", "up")]), &stale),
    ] {
        writer.add_series(TenantId(tenant), &labels, column).expect("a series");
    }
    writer.finish().expect("a segment");
    let files = disk.files();
    let bytes = files.into_iter().find(|(found, _)| found == path).expect("the segment").1;
    vec![seed("small", bytes)]
}

/// The records that the engine makes of the batches that are also sent.
pub(super) fn records() -> Vec<Seed> {
    let [floats, rich] = [floats(), rich()].map(|batch| records_of(batch).remove(0));
    vec![seed("floats", floats), seed("rich", rich)]
}

/// Deletions with every operator, and one of all there is.
pub(super) fn deletions() -> Vec<Seed> {
    let matcher = |op, name, value| Matcher::new(op, name, value, 1 << 20).expect("a matcher");
    let matchers = vec![
        matcher(MatchOp::Equal, "__name__", "before"),
        matcher(MatchOp::NotEqual, "job", "x"),
        matcher(MatchOp::Regex, "job", "v.*|b"),
        matcher(MatchOp::NotRegex, "a", "[0-9]+"),
    ];
    let all = DeletionSpec { matchers: Vec::new(), range: TimeRange::ALL };
    let some = DeletionSpec { matchers, range: TimeRange { min: -5, max: 1_790_000_000_000 } };
    let of = |spec: DeletionSpec| {
        let mut bytes = Vec::new();
        spec.encode(&mut bytes);
        bytes
    };
    vec![seed("all", of(all)), seed("some", of(some))]
}

/// Every kind of edit.
pub(super) fn manifests() -> Vec<Seed> {
    let metadata =
        Metadata { family: "up".to_owned(), kind: MetricType::Gauge, help: "Is up.".to_owned(), unit: String::new() };
    let segment = SegmentEntry {
        id: 3,
        partition: 1,
        level: 2,
        range: TimeRange { min: -5, max: 1_790_000_000_000 },
        first: 100,
        end: 1 << 40,
        series: 7,
        samples: 1000,
        bytes: 4096,
        clean: 1 << 40,
    };
    let matcher = Matcher::new(MatchOp::Regex, "job", "a|b.*", 1 << 20).expect("a matcher");
    let spec = DeletionSpec { matchers: vec![matcher], range: TimeRange { min: -5, max: i64::MAX } };
    let edits = [
        Edit::Snapshot { part: 0, last: true },
        Edit::Directory { partitions: 2 },
        Edit::Tenant { id: TenantId(1), name: TenantName::default() },
        Edit::Metadata { tenant: TenantId(1), metadata },
        Edit::Add(segment.clone()),
        Edit::Add(SegmentEntry { clean: 1 << 41, ..segment }),
        Edit::Delete { partition: 1, offset: 99, tenant: TenantId(1), spec },
        Edit::Forget { partition: 1, offset: 98 },
        Edit::Remove { id: 2 },
        Edit::Applied { partition: 1, offset: 300 },
    ];
    vec![seed("edits", encode(&edits))]
}
