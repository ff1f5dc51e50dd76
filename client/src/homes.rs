//! Which broker of a list has a job, without a socket: a job lives at one broker, its home, whose
//! store's number the job's id begins with.

use giostra_protocol::JobId;

use crate::{Error, Options};

/// What is known of one of the brokers.
#[derive(Debug, Default)]
pub enum Known {
    /// When it has not answered yet.
    #[default]
    Nothing,
    /// When it has said which store it has; `None`: it keeps no jobs.
    Home(Option<u32>),
    /// When it can't be reached, and why.
    Gone(Error),
}

/// Returns the place of the broker that has this job; `None` while one may have it that has not
/// answered yet.
///
/// # Errors
/// [`Error::NoBroker`] if the job is at none of those that have answered, and others can't be reached;
/// [`Error::Refused`] if all have answered.
pub fn home_of(job: JobId, brokers: &[Options], known: &[Known]) -> Result<Option<usize>, Error> {
    let place = known.iter().position(|one| matches!(one, Known::Home(Some(home)) if *home == job.home));
    if place.is_some() || is_open(known) {
        return Ok(place);
    }
    Err(gone(brokers, known, || format!("none of the others has job {job}"))
        .unwrap_or_else(|| Error::Refused(format!("none of these brokers has job {job}: {}", list(brokers)))))
}

/// Returns the place of the broker for a new job without a key: that of `current`, which the client
/// uses, or else the first that keeps jobs. `None` while it may use one that has not answered yet.
///
/// # Errors
/// As of [`home_of`].
pub fn home_for_new(
    current: Option<(usize, Option<u32>)>,
    brokers: &[Options],
    known: &[Known],
) -> Result<Option<usize>, Error> {
    if let Some((place, Some(_))) = current {
        return Ok(Some(place));
    }
    if current.is_none() && is_open(known) {
        return Ok(None);
    }
    let place = known.iter().position(|one| matches!(one, Known::Home(Some(_))));
    if place.is_some() || is_open(known) {
        return Ok(place);
    }
    Err(gone(brokers, known, || "none of the others keeps jobs".into()).unwrap_or_else(no_store))
}

/// Returns a place once all brokers have answered, `None` before.
///
/// # Errors
/// [`Error::NoBroker`] if one can't be reached, [`Error::Refused`] if none keeps jobs.
pub fn all_of(brokers: &[Options], known: &[Known]) -> Result<Option<usize>, Error> {
    match gone(brokers, known, || "the others are there".into()) {
        _ if is_open(known) => Ok(None),
        Some(error) => Err(error),
        None if known.iter().all(|one| matches!(one, Known::Home(None))) => Err(no_store()),
        None => Ok(Some(0)),
    }
}

fn no_store() -> Error {
    Error::Refused("none of these brokers keeps jobs: they were started without --store".into())
}

fn is_open(known: &[Known]) -> bool {
    known.iter().any(|one| matches!(one, Known::Nothing))
}

/// Returns why it may be at one that is gone, if any is.
fn gone(brokers: &[Options], known: &[Known], others: impl FnOnce() -> String) -> Option<Error> {
    let all = brokers.iter().zip(known);
    let gone: Vec<_> = all.filter(|(_, known)| matches!(known, Known::Gone(_))).collect();
    let (first, Known::Gone(error)) = gone.first()? else { return None };
    let endpoint = gone.iter().map(|(one, _)| one.broker.as_str()).collect::<Vec<_>>().join(",");
    let why = match error {
        Error::NoBroker { .. } => others(),
        error => format!("{}, {error}", others()),
    };
    Some(Error::NoBroker { endpoint, waited: first.broker_timeout, why: Some(why) })
}

fn list(brokers: &[Options]) -> String {
    brokers.iter().map(|one| one.broker.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn away() -> Known {
        Known::Gone(Error::NoBroker { endpoint: "b".into(), waited: Duration::from_secs(10), why: None })
    }

    fn find(home: u32, known: &[Known]) -> Result<Option<usize>, String> {
        let brokers = Options::new("a,b,c").each();
        home_of(JobId { home, number: 1 }, &brokers[..known.len()], known).map_err(|error| error.to_string())
    }

    #[test]
    fn a_job_is_at_the_broker_whose_store_its_id_names_whatever_becomes_of_the_others() {
        use Known::{Home, Nothing};
        assert_eq!(find(8, &[Nothing, Home(Some(8)), away()]), Ok(Some(1)));
        assert_eq!(find(8, &[Home(Some(7)), Nothing, away()]), Ok(None));
        let none = find(8, &[Home(Some(7)), Home(None)]).unwrap_err();
        assert!(none.contains("none of these brokers has job 00000008-1: a, b"), "{none}");
        let brokers = Options::new("a,b").each();
        assert!(matches!(all_of(&brokers, &[Home(None), Nothing]), Ok(None)));
        assert!(matches!(all_of(&brokers, &[Home(None), Home(Some(8))]), Ok(Some(_))));
        assert!(all_of(&brokers, &[away(), Home(Some(8))]).is_err());
        let gone = find(8, &[away(), Home(Some(7)), away()]).unwrap_err();
        assert!(gone.contains("no broker at a,c within 10s (none of the others has job 00000008-1)"), "{gone}");
        let unfit = find(8, &[Home(None), Known::Gone(Error::Handshake("its key is another".into()))]).unwrap_err();
        assert!(unfit.contains("no broker at b") && unfit.contains("its key is another"), "{unfit}");
    }

    #[test]
    fn a_new_job_goes_to_the_broker_in_use_or_else_to_the_first_that_keeps_jobs() {
        use Known::{Home, Nothing};
        let brokers = Options::new("a,b").each();
        let find = |current, known: [Known; 2]| home_for_new(current, &brokers, &known).map_err(|it| it.to_string());
        assert_eq!(find(Some((1, Some(9))), [Nothing, Nothing]), Ok(Some(1)));
        assert_eq!(find(Some((1, None)), [Home(Some(7)), Home(None)]), Ok(Some(0)));
        assert_eq!(find(None, [Nothing, Home(Some(7))]), Ok(None), "the client may be about to use the first");
        assert_eq!(find(None, [away(), Home(Some(7))]), Ok(Some(1)));
        assert!(find(Some((0, None)), [Home(None), Home(None)]).unwrap_err().contains("--store"));
        assert!(find(None, [away(), Home(None)]).unwrap_err().contains("no broker at a within"));
    }
}
