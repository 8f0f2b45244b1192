//! Who is closed when a core is full and somebody new comes: the order in which connections that are at no request go. Each step
//! costs the same with ten connections and with a million, and none allocates once the table is as large as the core ever needed.

/// What kind of connection waits. A newcomer takes the place of a stranger before that of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Never sent a request whose signature held. They go in the order in which they came, whatever they send.
    Stranger,
    /// A stranger beyond the limit, who has no place that a newcomer could take.
    Beyond,
    /// A client between two requests. The longest idle one goes first.
    Client,
}

const RANKS: usize = 3;

/// No neighbour.
const NONE: usize = usize::MAX;

/// Connections that are at no request, by number, each rank in the order in which it began to wait.
pub struct Idle {
    links: Vec<Link>,
    first: [usize; RANKS],
    last: [usize; RANKS],
}

#[derive(Clone, Copy)]
struct Link {
    rank: Option<Rank>,
    before: usize,
    behind: usize,
}

impl Idle {
    /// Nobody waits.
    pub fn new() -> Self {
        Self { links: Vec::new(), first: [NONE; RANKS], last: [NONE; RANKS] }
    }

    /// The connection waits from now on, behind all of its rank. One that waits already stays where it is.
    pub fn enter(&mut self, number: usize, rank: Rank) {
        if self.links.len() <= number {
            self.links.resize(number + 1, Link { rank: None, before: NONE, behind: NONE });
        }
        if self.links[number].rank.is_some() {
            return;
        }
        let before = std::mem::replace(&mut self.last[rank as usize], number);
        self.links[number] = Link { rank: Some(rank), before, behind: NONE };
        match before {
            NONE => self.first[rank as usize] = number,
            before => self.links[before].behind = number,
        }
    }

    /// The connection waits no more: it is at a request, or gone.
    pub fn leave(&mut self, number: usize) {
        let Some(&Link { rank: Some(rank), before, behind }) = self.links.get(number) else { return };
        self.links[number].rank = None;
        match before {
            NONE => self.first[rank as usize] = behind,
            before => self.links[before].behind = behind,
        }
        match behind {
            NONE => self.last[rank as usize] = before,
            behind => self.links[behind].before = before,
        }
    }

    /// Who of this rank waits for the longest.
    pub fn first(&self, rank: Rank) -> Option<usize> {
        Some(self.first[rank as usize]).filter(|first| *first != NONE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(idle: &mut Idle, rank: Rank) -> Vec<usize> {
        std::iter::from_fn(|| idle.first(rank).inspect(|first| idle.leave(*first))).collect()
    }

    #[test]
    fn the_longest_idle_is_first_and_ranks_are_apart() {
        let mut idle = Idle::new();
        for (number, rank) in [(4, Rank::Client), (0, Rank::Stranger), (2, Rank::Client), (1, Rank::Stranger), (3, Rank::Beyond)]
        {
            idle.enter(number, rank);
        }
        // Client 4 is at a request and idle again; a stranger who sends something gains nothing.
        idle.leave(4);
        idle.enter(4, Rank::Client);
        idle.enter(0, Rank::Stranger);
        assert_eq!(order(&mut idle, Rank::Stranger), [0, 1]);
        assert_eq!(order(&mut idle, Rank::Beyond), [3]);
        assert_eq!(order(&mut idle, Rank::Client), [2, 4]);
        assert_eq!([Rank::Stranger, Rank::Beyond, Rank::Client].map(|rank| idle.first(rank)), [None; 3]);
    }

    proptest! {
        #[test]
        fn it_is_as_a_list_would_be(steps in prop::collection::vec((0..12_usize, 0..4_usize), 0..200)) {
            let ranks = [Rank::Stranger, Rank::Beyond, Rank::Client];
            let (mut idle, mut lists) = (Idle::new(), [const { Vec::new() }; RANKS]);
            for (number, what) in steps {
                match ranks.get(what) {
                    Some(rank) => {
                        idle.enter(number, *rank);
                        if !lists.iter().flatten().any(|waits| *waits == number) {
                            lists[what].push(number);
                        }
                    }
                    None => {
                        idle.leave(number);
                        lists.iter_mut().for_each(|list| list.retain(|waits| *waits != number));
                    }
                }
                prop_assert_eq!(ranks.map(|rank| idle.first(rank)), [0, 1, 2].map(|rank| lists[rank].first().copied()));
            }
            for rank in ranks {
                prop_assert_eq!(order(&mut idle, rank), lists[rank as usize].clone());
            }
        }
    }
}
