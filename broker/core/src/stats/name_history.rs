//! What workers that are gone have done, by a name: that of a worker and its pool, or that of a host.
//! A worker that comes back under a name continues its counts, and the sum of several with one name
//! never decreases.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// The maximum number of names without a worker that are remembered: workers choose the names.
const MAX_ABSENT: usize = 10_000;

/// The counts of workers that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Requests that they replied to.
    pub answered: u64,
    /// Requests that they gave back when they were lost.
    pub returned: u64,
}

/// The counts by name.
#[derive(Debug)]
pub struct NameHistory<K> {
    of: HashMap<K, Name>,
    /// Names without a worker, by when the last one left.
    absent: BTreeMap<u64, K>,
    left: u64,
}

impl<K> Default for NameHistory<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), absent: BTreeMap::new(), left: 0 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Name {
    past: Past,
    present: usize,
    /// Its key in [`NameHistory::absent`], if no worker has the name.
    left: u64,
}

impl<K: Clone + Eq + Hash> NameHistory<K> {
    /// Records a worker that has registered.
    pub fn join(&mut self, name: K) {
        let name = self.of.entry(name).or_default();
        name.present += 1;
        self.absent.remove(&name.left);
    }

    /// Records a worker that is gone and has answered `answered` requests.
    pub fn part(&mut self, key: K, answered: u64) {
        let Some(name) = self.of.get_mut(&key) else { return };
        name.past.answered += answered;
        name.present -= 1;
        if name.present > 0 {
            return;
        }
        self.left += 1;
        name.left = self.left;
        self.absent.insert(self.left, key);
        if self.absent.len() > MAX_ABSENT
            && let Some((_, oldest)) = self.absent.pop_first()
        {
            self.of.remove(&oldest);
        }
    }

    /// Records the requests that a worker gave back when it was lost.
    pub fn gave_back(&mut self, name: &K, returned: u64) {
        if let Some(name) = self.of.get_mut(name) {
            name.past.returned += returned;
        }
    }

    /// Returns the counts of the workers of this name that are gone.
    pub fn past(&self, name: &K) -> Past {
        self.of.get(name).map(|name| name.past).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_absent_workers_are_kept_by_name_while_there_is_room() {
        let mut names = NameHistory::default();
        let label = |number: usize| ("p", number);
        for name in [label(0), ("q", 0), label(0)] {
            names.join(name);
        }
        names.part(label(0), 5);
        names.gave_back(&label(0), 2);
        assert_eq!(names.past(&label(0)), Past { answered: 5, returned: 2 });
        assert_eq!(names.past(&("q", 0)), Past::default(), "another pool's");
        // A name is not forgotten as long as a worker has it, however many others come and go.
        for number in 1..MAX_ABSENT + 10 {
            names.join(label(number));
            names.part(label(number), 1);
        }
        assert_eq!((names.of.len(), names.absent.len()), (MAX_ABSENT + 2, MAX_ABSENT));
        assert_eq!(names.past(&label(0)).answered, 5);
        assert_eq!([1, 10].map(|number| names.past(&label(number)).answered), [0, 1]);
        // A name with a worker again is not among the absent ones.
        names.join(label(10));
        names.part(label(10), 1);
        assert_eq!((names.past(&label(10)).answered, names.absent.len()), (2, MAX_ABSENT));
    }
}
