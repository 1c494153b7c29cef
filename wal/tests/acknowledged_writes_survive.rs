//! What is acknowledged survives power cuts, failed syncs, input/output errors, short writes and full disks, at any
//! operation; and nothing else is ever read. `VARVE_SEED=` replays a run, `VARVE_SIM_LIVES=` makes it long.

mod world;

use varve_vfs::sim::{Fault, Faults};
use world::{World, faults, lives, run, topic};

#[test]
fn random_lives_under_random_faults() {
    run(lives(10_000), |world, random| {
        world.life(random.below(5), Faults::none());
        for _ in 0..6 {
            let operations = world.disk.operations();
            let faults = match faults(random, 150) {
                none if random.chance(1, 5) => {
                    world.disk.set_capacity(Some(world.disk.used() + random.below(6000)));
                    none
                }
                some => some,
            };
            world.life(random.below(25), faults.shifted(operations));
        }
        world.life(0, Faults::none());
    });
}

/// Lives before, so that there are files, spares and commits; then one under test; then one that reads.
fn lived(seed: u64) -> World {
    let mut world = World::new(seed);
    world.life(12, Faults::none());
    world.life(12, Faults::none());
    world
}

#[test]
fn every_fault_at_every_operation() {
    let kinds = [Fault::PowerCut, Fault::Eio, Fault::SyncLost, Fault::Short(100), Fault::Full];
    for seed in [3, 4] {
        let lived = lived(seed);
        let mut world = lived.fork();
        world.life(15, Faults::none());
        let operations = world.operations;
        assert!(operations > 50, "{operations}");
        for operation in 0..operations {
            for kind in kinds {
                let mut world = lived.fork();
                world.life(15, Faults::at(operation, kind));
                world.life(3, Faults::none());
                world.reboot();
                world.life(0, Faults::none());
            }
        }
    }
}

#[test]
fn two_faults_one_behind_the_other() {
    let lived = lived(9);
    for operation in 0..120 {
        for behind in 1..6 {
            let mut world = lived.fork();
            world.life(12, Faults::at(operation, Fault::SyncLost).and(operation + behind, Fault::PowerCut));
            world.life(3, Faults::none());
            world.life(0, Faults::none());
        }
    }
}

#[test]
fn a_full_disk_of_every_size_loses_nothing_and_writes_resume() {
    for room in (0..8000).step_by(40) {
        let mut world = lived(room);
        world.disk.set_capacity(Some(world.disk.used() + room));
        world.life(30, Faults::none().and(u64::MAX, Fault::Full));
        world.life(0, Faults::none());
    }
}

#[test]
fn a_full_disk_still_takes_writes_into_the_open_file_and_the_spare() {
    let mut world = World::new(1);
    world.log_file_bytes = 4096;
    let (log, _) = world.open().unwrap();
    let mut writer = log.writer(&topic(), world::P0).unwrap();
    world.append_and_sync(&mut writer, 1).unwrap();
    world.disk.set_capacity(Some(0));
    let mut taken = 0;
    let refused = loop {
        match world.append_and_sync(&mut writer, 1) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(taken > 3 && refused.is_full(), "{taken} {refused}");
    world.verify(&log, false);
    world.disk.set_capacity(None);
    world.append_and_sync(&mut writer, 1).unwrap();
    world.verify(&log, false);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..20 {
        let digest = || {
            let mut world = World::new(seed);
            let mut random = varve_vfs::sim::Random::new(seed);
            for _ in 0..5 {
                let begin = world.disk.operations();
                world.life(20, faults(&mut random, 100).shifted(begin));
            }
            world.disk.digest()
        };
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}
