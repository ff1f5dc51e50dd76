//! Which address to try next. Pure: the addresses come from outside.
//!
//! The places to connect to are all addresses of all brokers, in the order in which the brokers are
//! listed. After the last comes the first.

use std::time::Duration;

/// For how long to wait for a `Welcome` at the first place if there are others, and the longest such
/// time. It doubles with each round over all places.
pub const PATIENCE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// The pause after the first round in which no broker answered, and the longest pause. It doubles with
/// each round. Each attempt needs a new socket, which costs more than libzmq's attempts with one.
const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The places, and which of them is tried.
#[derive(Debug)]
pub struct Route {
    /// The addresses of each broker; none while its name has not been looked up.
    brokers: Vec<Vec<String>>,
    /// The broker and the address that are tried.
    at: Option<(usize, String)>,
    /// The broker whose place is next, if it is not simply the next one.
    aim: Option<usize>,
    /// The places tried since the last welcome, and the rounds over all of them.
    tried: usize,
    rounds: u32,
}

/// What to do after [`Route::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connect now.
    Now,
    /// Connect after this pause: no place has answered.
    After(Duration),
    /// Wait for an address: none is known.
    Unknown,
}

impl Route {
    /// Creates the route over these brokers' addresses.
    pub fn new(brokers: Vec<Vec<String>>) -> Self {
        Self { brokers, at: None, aim: None, tried: 0, rounds: 0 }
    }

    /// The broker that is tried, by its place in the list, and its address.
    pub fn current(&self) -> Option<(usize, &str)> {
        self.at.as_ref().map(|(broker, address)| (*broker, address.as_str()))
    }

    /// Whether there is another place than the current one.
    pub fn has_others(&self) -> bool {
        let count: usize = self.brokers.iter().map(Vec::len).sum();
        count > usize::from(self.is_listed())
    }

    /// Sets the addresses of a broker. Returns whether the current place is no longer one, or there was
    /// none.
    pub fn set(&mut self, broker: usize, addresses: Vec<String>) -> bool {
        self.brokers[broker] = addresses;
        !self.is_listed()
    }

    /// Makes the first place of this broker the next one.
    pub fn aim(&mut self, broker: usize) {
        self.aim = Some(broker);
    }

    /// Makes the next place the current one.
    pub fn advance(&mut self) -> Step {
        let places: Vec<_> = self.places().collect();
        if places.is_empty() {
            return Step::Unknown;
        }
        let aim = self.aim.and_then(|aim| places.iter().position(|&(broker, _)| broker == aim));
        let at = self.current();
        let next = match (aim, at) {
            (Some(place), _) => place,
            (None, None) => 0,
            (None, Some(at)) => match places.iter().position(|&place| place == at) {
                Some(place) => (place + 1) % places.len(),
                // The address is gone: another one of its broker, or the next broker's.
                None => places.iter().position(|&(broker, _)| broker >= at.0).unwrap_or(0),
            },
        };
        let (count, (broker, address)) = (places.len(), places[next]);
        self.at = Some((broker, address.to_string()));
        self.aim = None;
        let whole_round = self.tried > 0 && self.tried.is_multiple_of(count);
        self.tried += 1;
        if !whole_round {
            return Step::Now;
        }
        let pause = PAUSE[0].saturating_mul(1 << self.rounds.min(16)).min(PAUSE[1]);
        self.rounds += 1;
        Step::After(pause)
    }

    /// Records that the broker at the current place has answered.
    pub fn answered(&mut self) {
        (self.tried, self.rounds) = (0, 0);
    }

    /// For how long to wait for a `Welcome` at the current place.
    pub fn patience(&self) -> Duration {
        match self.has_others() {
            true => PATIENCE[0].saturating_mul(1 << self.rounds.min(16)).min(PATIENCE[1]),
            false => PATIENCE[1],
        }
    }

    fn is_listed(&self) -> bool {
        self.current().is_some_and(|at| self.places().any(|place| place == at))
    }

    fn places(&self) -> impl Iterator<Item = (usize, &str)> {
        let brokers = self.brokers.iter().enumerate();
        brokers.flat_map(|(broker, addresses)| addresses.iter().map(move |address| (broker, address.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(brokers: &[&[&str]]) -> Route {
        Route::new(brokers.iter().map(|them| them.iter().map(ToString::to_string).collect()).collect())
    }

    fn next(route: &mut Route) -> (&str, Step) {
        let step = route.advance();
        (route.current().map_or("", |(_, address)| address), step)
    }

    #[test]
    fn every_address_of_every_broker_gets_its_turn_and_a_round_without_an_answer_is_followed_by_a_pause() {
        let mut route = route(&[&["a1", "a2"], &[], &["c"]]);
        let pause = |ms| Step::After(Duration::from_millis(ms));
        for address in ["a1", "a2", "c"] {
            assert_eq!(next(&mut route), (address, Step::Now));
        }
        assert_eq!(route.patience(), PATIENCE[0]);
        assert_eq!(next(&mut route), ("a1", pause(10)));
        assert_eq!(route.patience(), 2 * PATIENCE[0]);
        assert_eq!(
            (next(&mut route).1, next(&mut route).1, next(&mut route)),
            (Step::Now, Step::Now, ("a1", pause(20)))
        );
        (0..100).for_each(|_| _ = next(&mut route));
        assert_eq!((next(&mut route).1, next(&mut route).1), (Step::Now, pause(1000)));
        assert_eq!(route.patience(), PATIENCE[1]);
    }

    #[test]
    fn from_a_broker_that_has_answered_the_next_one_is_tried_at_once_and_then_it_again() {
        let mut route = route(&[&["a"], &["b"]]);
        next(&mut route);
        route.answered();
        assert_eq!([next(&mut route).1, next(&mut route).1], [Step::Now; 2]);
        assert!(matches!(next(&mut route), ("b", Step::After(_))));
    }

    #[test]
    fn the_next_place_may_be_any_broker_s_after_which_the_order_goes_on() {
        let mut route = route(&[&["a1", "a2"], &["b"], &["c"]]);
        (0..4).for_each(|_| _ = next(&mut route));
        route.answered();
        route.aim(0);
        assert_eq!([next(&mut route).0.to_string(), next(&mut route).0.to_string()], ["a1", "a2"]);
        route.aim(2);
        assert_eq!(next(&mut route).0, "c");
    }

    #[test]
    fn a_lone_address_is_not_left_until_it_changes() {
        let mut route = route(&[&[]]);
        assert_eq!(next(&mut route), ("", Step::Unknown));
        assert!(route.set(0, vec!["a".into()]));
        assert_eq!(next(&mut route), ("a", Step::Now));
        assert!(!route.has_others() && !route.set(0, vec!["a".into()]));
        assert!(route.set(0, vec!["b".into()]) && route.has_others());
        assert_eq!(next(&mut route).0, "b");
        assert!(!route.has_others());
    }

    #[test]
    fn where_an_address_is_gone_its_broker_is_tried_before_the_next_one() {
        let mut route = route(&[&["a"], &["b1", "b2"], &["c"]]);
        (0..3).for_each(|_| _ = next(&mut route));
        assert!(route.set(1, vec!["b1".into(), "b3".into()]));
        assert_eq!(next(&mut route).0, "b1");
        assert!(route.set(1, vec![]));
        assert_eq!(next(&mut route).0, "c");
    }
}
