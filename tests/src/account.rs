//! What became of events that were published while something broke.

use std::{collections::HashMap, time::Duration};

/// An account of all events: what was accepted, and what clients have heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Publications that were accepted.
    pub accepted: usize,
    /// Events that were heard, by all clients together. Each is to hear all that were accepted.
    pub delivered: usize,
    /// Events that were accepted and that a client has not heard.
    pub lost: usize,
    /// Events that a client has heard again.
    pub twice: usize,
    /// Gaps that clients were told of.
    pub gaps: usize,
    /// Events that a client has heard before one that was published earlier.
    pub reordered: usize,
}

impl Account {
    /// Accounts for clients that heard these ids, or a gap where there is none. What was accepted is in sequences: the ids
    /// that somebody published one after the other, on one channel.
    ///
    /// # Panics
    ///
    /// Where one has heard what nobody published.
    #[track_caller]
    pub fn new<'a, H: IntoIterator<Item = Option<&'a str>>>(
        accepted: &[Vec<String>],
        clients: impl IntoIterator<Item = H>,
    ) -> Self {
        let mut account = Self {
            accepted: accepted.iter().map(Vec::len).sum(),
            ..Self::default()
        };
        let places: HashMap<&str, (usize, usize)> = accepted
            .iter()
            .enumerate()
            .flat_map(|(sequence, ids)| {
                let places = ids.iter().enumerate();
                places.map(move |(place, id)| (id.as_str(), (sequence, place)))
            })
            .collect();
        for heard in clients {
            account.add(heard, &places, accepted.len());
        }
        account
    }

    #[track_caller]
    fn add<'a>(
        &mut self,
        heard: impl IntoIterator<Item = Option<&'a str>>,
        places: &HashMap<&str, (usize, usize)>,
        sequences: usize,
    ) {
        let mut times: HashMap<&str, usize> = HashMap::new();
        let mut newest = vec![None; sequences];
        for id in heard {
            let Some(id) = id else {
                self.gaps += 1;
                continue;
            };
            let Some((sequence, place)) = places.get(id) else {
                panic!("nobody published {id:?}");
            };
            self.delivered += 1;
            let known = times.entry(id).or_default();
            *known += 1;
            if *known > 1 {
                self.twice += 1;
                continue;
            }
            self.reordered += usize::from(newest[*sequence] > Some(*place));
            newest[*sequence] = Some(*place);
        }
        self.lost += places.len() - times.len();
    }

    /// Prints it as one line, with what carried the events, what broke, and how long it took until all went on.
    pub fn report(&self, broker: &str, fault: &str, goes_on_after: Duration) {
        let Self {
            accepted,
            delivered,
            lost,
            twice,
            gaps,
            ..
        } = self;
        println!(
            "FAULT broker={broker} fault={fault} accepted={accepted} delivered={delivered} lost={lost} twice={twice} \
             gaps={gaps} goes_on_after={}ms",
            goes_on_after.as_millis()
        );
    }

    /// Nothing is lost in silence, and nothing is heard twice.
    #[track_caller]
    pub fn check_told(&self) {
        assert!(self.lost == 0 || self.gaps > 0, "{self:?}");
        assert_eq!((self.twice, self.reordered), (0, 0), "{self:?}");
    }

    /// Nothing is lost, nothing is heard twice, and no gap is told.
    #[track_caller]
    pub fn check(&self) {
        let bad = (self.lost, self.twice, self.gaps, self.reordered);
        assert_eq!(bad, (0, 0, 0, 0), "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_accounted_for() {
        let accepted = [["a0", "a1"], ["b0", "b1"]].map(|ids| ids.map(str::to_owned).to_vec());
        let account = |clients: &[&[Option<&'static str>]]| {
            let clients = clients.iter().map(|heard| heard.iter().copied());
            Account::new(&accepted, clients)
        };
        let all = [Some("a0"), Some("b0"), Some("b1"), Some("a1")];
        let right = account(&[&all, &all]);
        right.check();
        assert_eq!((right.accepted, right.delivered), (4, 8));
        let wrong = account(&[
            &all,
            &[Some("a1"), Some("a0"), None, Some("b1"), Some("b1")],
        ]);
        let right = Account {
            accepted: 4,
            delivered: 8,
            lost: 1,
            twice: 1,
            gaps: 1,
            reordered: 1,
        };
        assert_eq!(wrong, right);
    }
}
