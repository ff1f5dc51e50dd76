//! What workers that are gone have done, by pool and name. A worker that comes back under its name
//! continues the counts, and the sum of several with one name never decreases.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use giostra_protocol::name::Label;

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

/// A pool, and a name in it.
type Key = (Arc<str>, Label);

/// The counts by pool and name.
#[derive(Debug, Default)]
pub struct NameHistory {
    of: HashMap<Key, Name>,
    /// Names without a worker, by when the last one left.
    absent: BTreeMap<u64, Key>,
    left: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Name {
    past: Past,
    present: usize,
    /// Its key in [`NameHistory::absent`], if no worker has the name.
    left: u64,
}

impl NameHistory {
    /// Records a worker that has registered.
    pub fn join(&mut self, pool: &Arc<str>, name: &Label) {
        let name = self.of.entry((Arc::clone(pool), name.clone())).or_default();
        name.present += 1;
        self.absent.remove(&name.left);
    }

    /// Records a worker that is gone and has answered `answered` requests.
    pub fn part(&mut self, pool: &Arc<str>, name: &Label, answered: u64) {
        let key = (Arc::clone(pool), name.clone());
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
    pub fn gave_back(&mut self, pool: &Arc<str>, name: &Label, returned: u64) {
        if let Some(name) = self.of.get_mut(&(Arc::clone(pool), name.clone())) {
            name.past.returned += returned;
        }
    }

    /// Returns the counts of the workers of this name that are gone.
    pub fn past(&self, pool: &Arc<str>, name: &Label) -> Past {
        self.of.get(&(Arc::clone(pool), name.clone())).map(|name| name.past).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_absent_workers_are_kept_by_pool_and_name_while_there_is_room() {
        let mut names = NameHistory::default();
        let (pool, other): (Arc<str>, Arc<str>) = ("p".into(), "q".into());
        let label = |number: usize| Label::from(&*number.to_string());
        for pool in [&pool, &other, &pool] {
            names.join(pool, &label(0));
        }
        names.part(&pool, &label(0), 5);
        names.gave_back(&pool, &label(0), 2);
        assert_eq!(names.past(&pool, &label(0)), Past { answered: 5, returned: 2 });
        assert_eq!(names.past(&other, &label(0)), Past::default(), "another pool's");
        // A name is not forgotten as long as a worker has it, however many others come and go.
        for number in 1..MAX_ABSENT + 10 {
            names.join(&pool, &label(number));
            names.part(&pool, &label(number), 1);
        }
        assert_eq!((names.of.len(), names.absent.len()), (MAX_ABSENT + 2, MAX_ABSENT));
        assert_eq!(names.past(&pool, &label(0)).answered, 5);
        assert_eq!([1, 10].map(|number| names.past(&pool, &label(number)).answered), [0, 1]);
        // A name with a worker again is not among the absent ones.
        names.join(&pool, &label(10));
        names.part(&pool, &label(10), 1);
        assert_eq!((names.past(&pool, &label(10)).answered, names.absent.len()), (2, MAX_ABSENT));
    }
}
