//! Does the simulated disk forget what it may forget, keep what it must keep, and do both by seed?

use super::*;

fn disk() -> (SimVfs, Arc<dyn File>) {
    disk_of(1)
}

fn disk_of(seed: u64) -> (SimVfs, Arc<dyn File>) {
    let disk = SimVfs::new(seed);
    disk.create_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = disk.open(Path::new("/d/f"), Open::Create).unwrap();
    file.write_at(&[1; 2048], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn read(disk: &SimVfs, path: &str) -> Option<Vec<u8>> {
    disk.files().into_iter().find(|(name, _)| name == Path::new(path)).map(|(_, bytes)| bytes)
}

#[test]
fn a_crash_keeps_any_subset_of_unsynced_sectors_and_all_synced_ones() {
    let (disk, file) = disk();
    file.write_at(&[2; 1024], 512).unwrap();
    file.write_at(&[3; 512], 512).unwrap();
    file.write_at(&[4; 100], 2048).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let bytes = read(&disk.crash(seed), "/d/f").unwrap();
        assert!(bytes.len() == 2048 || bytes.len() == 2148);
        assert!(bytes[..512].iter().all(|byte| *byte == 1));
        assert!(bytes[1536..2048].iter().all(|byte| *byte == 1));
        for sector in [&bytes[512..1024], &bytes[1024..1536]] {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        }
        outcomes.insert((bytes[512], bytes[1024], bytes.get(2048).copied()));
    }
    // Sector 1: any of 3 versions; sector 2: any of 2; the tail: absent, zero, written.
    assert_eq!(outcomes.len(), 3 * 2 * 3);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let (disk, file) = disk();
    file.write_at(&[2; 1500], 100).unwrap();
    let digests: Vec<u64> = (0..50).map(|seed| disk.crash(seed).digest()).collect();
    assert_eq!(digests, (0..50).map(|seed| disk.crash(seed).digest()).collect::<Vec<_>>());
}

#[test]
fn a_name_is_durable_only_after_its_directory_is_synced() {
    let (disk, _) = disk();
    let (from, to) = (Path::new("/d/f"), Path::new("/d/g"));
    disk.rename(from, to).unwrap();
    let names = |disk: &SimVfs| disk.list(Path::new("/d")).unwrap();
    let seen: BTreeSet<Vec<String>> = (0..100).map(|seed| names(&disk.crash(seed))).collect();
    assert_eq!(seen, BTreeSet::from([vec!["f".to_owned()], vec!["g".to_owned()]]));
    disk.sync_dir(Path::new("/d")).unwrap();
    assert!((0..100).all(|seed| names(&disk.crash(seed)) == ["g"]));
    disk.remove(to).unwrap();
    let seen: BTreeSet<usize> = (0..100).map(|seed| names(&disk.crash(seed)).len()).collect();
    assert_eq!(seen, BTreeSet::from([0, 1]));
    let file = disk.open(Path::new("/d/new"), Open::Create).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync().unwrap();
    assert!((0..100).any(|seed| !names(&disk.crash(seed)).contains(&"new".to_owned())));
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let (disk, _) = disk();
    disk.create_dir(Path::new("/e")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/d/f"), Path::new("/e/f")).unwrap();
    for seed in 0..100 {
        let after = disk.crash(seed);
        assert!(read(&after, "/d/f").is_some() || read(&after, "/e/f").is_some());
    }
}

#[test]
fn a_failed_sync_forgets_and_kills_the_handle() {
    let mut lost = 0;
    for seed in 0..40 {
        let (disk, file) = disk_of(seed);
        file.write_at(&[7; 2048], 0).unwrap();
        disk.set_faults(Faults::at(disk.operations(), Fault::SyncLost));
        assert!(file.sync().is_err());
        assert!(file.sync().is_err(), "no second sync may seem to work");
        assert!(file.write_at(&[1], 0).is_err());
        disk.open(Path::new("/d/f"), Open::Write).unwrap().sync().unwrap();
        lost += u32::from(read(&disk.crash(seed), "/d/f").unwrap().contains(&1));

        let (disk, file) = disk_of(seed);
        file.write_at(&[7; 2048], 0).unwrap();
        file.sync().unwrap();
        assert!(!read(&disk.crash(seed), "/d/f").unwrap().contains(&1));
    }
    assert!((10..40).contains(&lost), "{lost}");
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites_still_work() {
    let (disk, file) = disk();
    disk.set_capacity(Some(2048 + 100));
    file.write_at(&[5; 512], 0).unwrap();
    let error = file.write_at(&[6; 512], 2048).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 2148);
    disk.set_capacity(None);
    file.write_at(&[6; 512], 2048).unwrap();
}

#[test]
fn a_power_cut_stops_everything_until_the_reboot() {
    let (disk, file) = disk();
    disk.set_faults(Faults::at(disk.operations(), Fault::PowerCut));
    assert!(file.write_at(&[9; 512], 0).is_err());
    assert!(disk.is_off());
    let mut byte = [0];
    assert!(file.read_at(&mut byte, 0).is_err());
    let seen: BTreeSet<u8> = (0..50).map(|seed| read(&disk.crash(seed), "/d/f").unwrap()[0]).collect();
    assert_eq!(seen, BTreeSet::from([1, 9]));
    assert!(!disk.crash(0).is_off());
}

#[test]
fn a_killed_process_leaves_what_it_wrote_in_the_cache() {
    let (disk, file) = disk();
    disk.set_faults(Faults::at(disk.operations(), Fault::PowerCut));
    assert!(file.write_at(&[9; 512], 0).is_err());
    disk.revive();
    assert_eq!(read(&disk, "/d/f").unwrap()[0], 9);
    let seen: BTreeSet<u8> = (0..50).map(|seed| read(&disk.crash(seed), "/d/f").unwrap()[0]).collect();
    assert_eq!(seen, BTreeSet::from([1, 9]));
}

#[test]
fn rot_is_seen_and_bad_sectors_fail() {
    let (disk, file) = disk();
    disk.flip(Path::new("/d/f"), 700, 3);
    let mut byte = [0];
    file.read_at(&mut byte, 700).unwrap();
    assert_eq!(byte[0], 1 ^ 8);
    disk.spoil(Path::new("/d/f"), 1500);
    assert!(file.read_at(&mut byte, 1400).is_err());
    assert!(file.read_at(&mut byte, 1000).is_ok());
    disk.truncate(Path::new("/d/f"), 10);
    assert_eq!(file.len().unwrap(), 10);
}

#[test]
fn a_short_write_leaves_a_part() {
    let (disk, file) = disk();
    disk.set_faults(Faults::at(disk.operations(), Fault::Short(5)));
    assert!(file.write_at(&[8; 20], 0).is_err());
    let mut bytes = [0; 6];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [8, 8, 8, 8, 8, 1]);
}
