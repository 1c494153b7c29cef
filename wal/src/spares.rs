//! Spares: log files that left the log and wait to be used again, so that a roll need not fill a new one with zeros
//! while writes wait.
//!
//! Invariants:
//! * A place is free, has a file whose name is durable, or is busy: a file is on its way in or out. Retention and the
//!   writer work at the same time; neither touches a busy place of the other.
//! * As many files are kept as one retention has set aside, at most [`SPARES_MAX`]: what a flush frees, the next files
//!   need again.

/// Spares of a partition at most: they are disk that holds nothing, also where little is written.
pub(crate) const SPARES_MAX: usize = 2;

const NAMES: [&str; SPARES_MAX] = ["spare", "spare-2"];

/// The name of the file at a place.
pub(crate) fn name(place: usize) -> &'static str {
    NAMES.get(place).copied().unwrap_or("spare")
}

/// Whether a file is a spare, of this build or of one that kept more.
pub(crate) fn is_spare(name: &str) -> bool {
    name.starts_with("spare")
}

/// The place of a spare; `None` for one of a build that kept more.
pub(crate) fn place(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    #[default]
    Free,
    Ready,
    Busy,
}

/// The places of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spares([Place; SPARES_MAX]);

impl Spares {
    fn turn(&mut self, from: Place, to: Place) -> Option<usize> {
        let place = self.0.iter().position(|place| *place == from)?;
        self.set(place, to);
        Some(place)
    }

    fn set(&mut self, place: usize, to: Place) {
        if let Some(place) = self.0.get_mut(place) {
            *place = to;
        }
    }

    /// A file that is ready; its place is busy until [`Spares::free`].
    pub(crate) fn take(&mut self) -> Option<usize> {
        self.turn(Place::Ready, Place::Busy)
    }

    /// A place for a file; busy until [`Spares::ready`] or [`Spares::free`].
    pub(crate) fn reserve(&mut self) -> Option<usize> {
        self.turn(Place::Free, Place::Busy)
    }

    /// The file at a place can be used.
    pub(crate) fn ready(&mut self, place: usize) {
        self.set(place, Place::Ready);
    }

    /// There is no file of use at a place.
    pub(crate) fn free(&mut self, place: usize) {
        self.set(place, Place::Free);
    }

    /// Forgets the files that are ready: they have another size than is wanted now.
    pub(crate) fn forget(&mut self) {
        for place in self.0.iter_mut().filter(|place| **place == Place::Ready) {
            *place = Place::Free;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_place_is_nobody_elses() {
        let mut spares = Spares::default();
        assert_eq!(spares.take(), None);
        let places: Vec<usize> = std::iter::from_fn(|| spares.reserve()).collect();
        assert_eq!(places, [0, 1]);
        assert_eq!(spares.take(), None);
        spares.ready(1);
        assert_eq!((spares.take(), spares.take(), spares.reserve()), (Some(1), None, None));
        spares.free(1);
        assert_eq!(spares.reserve(), Some(1));
        spares.ready(1);
        spares.forget();
        assert_eq!((spares.take(), spares.reserve()), (None, Some(1)));
        assert_eq!(
            places.iter().map(|place| name(*place)).collect::<std::collections::BTreeSet<_>>().len(),
            SPARES_MAX
        );
    }
}
