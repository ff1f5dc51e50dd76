//! The last events in the status: those of the log that are about more than a request taking its
//! usual course.

use std::collections::VecDeque;

use giostra_protocol::EventStatus;

use crate::event::Event;

/// The maximum number of events that are kept.
const MAX_EVENTS: usize = 100;

/// The maximum number of characters of an event's text: from its beginning, and from its end, where
/// the reason is.
const TEXT: [usize; 2] = [140, 60];

/// The kind that is removed first.
const REDISPATCH: &str = "redispatch";

/// The last events.
#[derive(Debug, Default)]
pub struct RecentEvents {
    events: VecDeque<EventStatus>,
    last: u64,
}

impl RecentEvents {
    /// Records an event, in milliseconds after the broker's start.
    pub fn record(&mut self, event: &Event, at_ms: u64) {
        if !event.is_worth_watching() {
            return;
        }
        if self.events.len() == MAX_EVENTS {
            // The requests of one lost worker may be dispatched in a thousand small batches, which
            // must not crowd its loss out.
            let oldest = self.events.iter().position(|event| event.kind == REDISPATCH).unwrap_or(0);
            self.events.remove(oldest);
        }
        self.last += 1;
        let (text, (worker, count)) = (format!("{event:#}"), event.about());
        let kind = text.split(' ').next().unwrap_or_default().to_string();
        self.events.push_back(EventStatus { sequence: self.last, at_ms, kind, text: shortened(text), worker, count });
    }

    /// Iterates over the events, the newest last.
    pub fn events(&self) -> impl Iterator<Item = &EventStatus> {
        self.events.iter()
    }
}

/// Returns the text without its middle if it is too long, because an event may name many requests.
fn shortened(text: String) -> String {
    let [head, tail] = TEXT;
    let place = |nth: usize| text.char_indices().nth(nth).map(|(place, _)| place);
    let letters = text.chars().count();
    match (place(head), place(letters.saturating_sub(tail))) {
        (Some(end), Some(start)) if letters > head + tail => format!("{} .. {}", &text[..end], &text[start..]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::Priority;
    use giostra_protocol::name::Label;

    use super::*;
    use crate::event::{DropReason, Evidence, WorkerLabel};
    use crate::id_ranges::IdRanges;
    use crate::ids::{ClientNumber, WorkerNumber};

    #[test]
    fn the_last_hundred_events_are_kept_without_usual_ones() {
        let mut recent = RecentEvents::default();
        let worker = WorkerLabel { name: Label::from("worker-1"), number: WorkerNumber(7) };
        recent.record(
            &Event::Accepted { requests: IdRanges::default(), pool: "p".into(), priority: Priority::Normal },
            1,
        );
        recent.record(&Event::WorkerLeaving { worker, drained: true, in_flight: 3 }, 2);
        let [event] = &recent.events().collect::<Vec<_>>()[..] else { panic!("one of them") };
        assert_eq!((&*event.kind, event.worker, event.count, event.at_ms), ("leaving", Some(7), Some(3), 2));
        assert_eq!(event.text, "leaving worker-1 w7 in-flight=3 by=drain");
        for number in 0..150 {
            let (client, name) = (ClientNumber(number), "x".repeat(300).into());
            recent.record(&Event::ClientJoined { client, name, clients: 1, key: None }, 3);
        }
        assert_eq!(recent.events().count(), MAX_EVENTS);
        let last = recent.events().last().unwrap();
        assert!(last.sequence == 151 && last.text.len() == TEXT[0] + TEXT[1] + 4, "{last:?}");
        assert!(last.text.starts_with("client-joined c149 x") && last.text.contains("x .. x"), "{last:?}");
    }

    #[test]
    fn a_loss_is_not_crowded_out_by_its_redispatches() {
        let mut recent = RecentEvents::default();
        let worker = |number| WorkerLabel { name: Label::from("worker"), number: WorkerNumber(number) };
        let (reason, returned, evidence) = (DropReason::ConnectionBroke, IdRanges::default(), Evidence::Yes);
        let worker_1 = worker(1);
        let (unwanted, discarded, workers) = (0, 0, 1);
        let dropped =
            Event::WorkerDropped { worker: worker_1, reason, returned, unwanted, discarded, workers, evidence };
        recent.record(&dropped, 1);
        for _ in 0..1000 {
            let (tickets, requests) = (IdRanges::default(), IdRanges::default());
            recent.record(&Event::Dispatched { worker: worker(2), again: true, suspect: false, tickets, requests }, 2);
        }
        recent.record(&Event::WorkerLeft { worker: worker(2), discarded: 0, workers: 0 }, 3);
        let kinds: Vec<_> = recent.events().map(|event| &*event.kind).collect();
        assert_eq!((kinds.len(), kinds[0], kinds[MAX_EVENTS - 1]), (MAX_EVENTS, "dropped", "left"));
        assert_eq!(recent.events().last().unwrap().sequence, 1002);
    }
}
