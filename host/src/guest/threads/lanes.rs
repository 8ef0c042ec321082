//! Whose turn it is: of the apps that have something to run, the one that has used the least time. And who is greedy.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

/// How long it takes at least until it is looked anew who is greedy.
const WINDOW: Duration = Duration::from_millis(10);
/// A lane that uses less than this part of all cores is not greedy.
const PART: u32 = 4;
/// Nor is one that uses no more than so many times what each of the others does that is at work. One that was called
/// a moment ago and has used nothing since is at work as well: who is called seldom wants to be answered soon.
const TIMES: u32 = 2;
/// For so long after its last turn a lane is one of those that others are compared with.
const RECENT: Duration = Duration::from_secs(1);

/// Of calls, and of the threads that run them: those of a greedy lane all run on the slow threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It has just come, or was waiting.
    Quick,
    /// It computes.
    Slow,
}

/// What all apps have to run.
pub struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// The lanes that have something for the threads of a level, by the time that they have used.
    ready: [BTreeSet<(Duration, usize)>; 2],
    /// Of the machine. Who uses more than a part of them may be greedy.
    cores: u32,
    /// What the lane that ran last had used by then. A lane that had nothing to run meanwhile has saved up nothing.
    now: Duration,
    /// When it was last looked who is greedy.
    looked: Option<Instant>,
}

struct Lane<T> {
    /// What is to run, at each level.
    waiting: [VecDeque<T>; 2],
    /// Calls on the threads of each level.
    running: [u32; 2],
    /// Time on the CPU. The lane that has the least is next.
    used: Duration,
    /// What it has used since it was last looked who is greedy.
    spent: Duration,
    /// When its last turn ended.
    last: Option<Instant>,
    /// It has used far more than another one, and whenever it was looked since then it had something to run beside
    /// others: its quick calls run on the threads of slow ones.
    greedy: bool,
    /// There they take turns with the slow ones, whose turn it is now.
    slow_next: bool,
}

impl<T> Lanes<T> {
    /// None as yet, for threads of a machine with so many cores. Each lane may have as many calls on the quick threads at
    /// a time: of these there is one more, which is left to others.
    pub fn new(cores: u32) -> Self {
        Self {
            lanes: Vec::new(),
            ready: Default::default(),
            cores,
            now: Duration::ZERO,
            looked: None,
        }
    }

    /// One more, and its number.
    pub fn add(&mut self) -> usize {
        self.lanes.push(Lane {
            waiting: Default::default(),
            running: [0; 2],
            used: Duration::ZERO,
            spent: Duration::ZERO,
            last: None,
            greedy: false,
            slow_next: false,
        });
        self.lanes.len() - 1
    }

    /// Puts something at the end of a lane, and says which threads are to run it.
    pub fn push(&mut self, number: usize, level: Level, what: T) -> Level {
        let now = self.now;
        let lane = &mut self.lanes[number];
        if !lane.has_something() {
            lane.used = lane.used.max(now);
        }
        lane.waiting[level as usize].push_back(what);
        let threads = lane.threads(level);
        self.rank(number, threads);
        threads
    }

    /// What a thread of this level is to run next, and whose it is, to be given back.
    pub fn take(&mut self, threads: Level) -> Option<(usize, T)> {
        let may = |lane: &Lane<T>| {
            threads == Level::Slow || lane.running[Level::Quick as usize] < self.cores
        };
        let ready = &self.ready[threads as usize];
        let next = ready.iter().find(|(_, number)| may(&self.lanes[*number]));
        let (used, number) = *next?;
        let lane = &mut self.lanes[number];
        let level = lane.next(threads)?;
        let what = lane.waiting[level as usize].pop_front()?;
        lane.slow_next = level == Level::Quick;
        if lane.next(threads).is_none() {
            self.ready[threads as usize].remove(&(used, number));
        }
        lane.running[threads as usize] += 1;
        self.now = self.now.max(used);
        Some((number, what))
    }

    /// A thread of this level has run something of a lane, and has used so much time on the CPU. By the clock it would be
    /// more for one who has had to wait for a core, who would then have to wait for longer still. Says whether other
    /// threads than before are to run what waits.
    pub fn give_back(
        &mut self,
        number: usize,
        threads: Level,
        used: Duration,
        now: Instant,
    ) -> bool {
        self.unrank(number);
        let lane = &mut self.lanes[number];
        lane.running[threads as usize] -= 1;
        lane.used += used;
        lane.spent += used;
        lane.last = Some(now);
        self.rank(number, Level::Quick);
        self.rank(number, Level::Slow);
        self.look(now)
    }

    /// Takes out all that waits. What runs is still to be given back.
    pub fn clear(&mut self) -> Vec<T> {
        self.ready = Default::default();
        let waiting = self.lanes.iter_mut().flat_map(|lane| &mut lane.waiting);
        waiting.flat_map(mem::take).collect()
    }

    /// Puts a lane where its used time says, if it has something for the threads of this level.
    fn rank(&mut self, number: usize, threads: Level) {
        let lane = &self.lanes[number];
        if lane.next(threads).is_some() {
            self.ready[threads as usize].insert((lane.used, number));
        }
    }

    /// To be done before what ranks it changes.
    fn unrank(&mut self, number: usize) {
        let place = (self.lanes[number].used, number);
        for ready in &mut self.ready {
            ready.remove(&place);
        }
    }

    /// Looks who is greedy, if it is time to.
    fn look(&mut self, now: Instant) -> bool {
        let looked = *self.looked.get_or_insert(now);
        let window = now.saturating_duration_since(looked);
        if window < WINDOW {
            return false;
        }
        self.looked = Some(now);
        let is_recent = |lane: &Lane<T>| {
            let since = |last| now.saturating_duration_since(last);
            lane.has_something() || lane.last.is_some_and(|last| since(last) < RECENT)
        };
        let recent = || self.lanes.iter().filter(|lane| is_recent(lane));
        let (count, least) = (recent().count(), recent().map(|lane| lane.spent).min());
        let most = (window * self.cores / PART).max(least.unwrap_or_default() * TIMES);
        let mut moved = false;
        for number in 0..self.lanes.len() {
            let lane = &mut self.lanes[number];
            let beside_others = count > usize::from(is_recent(lane));
            let greedy = beside_others
                && match lane.greedy {
                    false => lane.spent > most,
                    // While it gives way it may use little: what counts is that it would use more.
                    true => lane.spent > most || lane.has_something(),
                };
            lane.spent = Duration::ZERO;
            if lane.greedy != greedy {
                self.unrank(number);
                let lane = &mut self.lanes[number];
                lane.greedy = greedy;
                moved |= !lane.waiting[Level::Quick as usize].is_empty();
                self.rank(number, Level::Quick);
                self.rank(number, Level::Slow);
            }
        }
        moved
    }
}

impl<T> Lane<T> {
    /// Whether anything runs or waits.
    fn has_something(&self) -> bool {
        self.running != [0; 2] || !self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Which threads run calls of a level.
    fn threads(&self, level: Level) -> Level {
        match self.greedy {
            true => Level::Slow,
            false => level,
        }
    }

    /// Calls of which level the threads of one are to run next.
    fn next(&self, threads: Level) -> Option<Level> {
        let levels = match self.slow_next {
            true => [Level::Slow, Level::Quick],
            false => [Level::Quick, Level::Slow],
        };
        levels.into_iter().find(|level| {
            self.threads(*level) == threads && !self.waiting[*level as usize].is_empty()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Level::*, *};

    /// Lanes and a clock.
    struct Bench {
        lanes: Lanes<&'static str>,
        now: Instant,
    }

    impl Bench {
        fn new(lanes: usize) -> Self {
            let mut all = Lanes::new(2);
            for _ in 0..lanes {
                all.add();
            }
            Self {
                lanes: all,
                now: Instant::now(),
            }
        }

        /// A lane has a turn of so many milliseconds, and nothing to run before and after.
        fn turn(&mut self, number: usize, millis: u64) -> Level {
            let threads = self.lanes.push(number, Quick, "turn");
            assert_eq!(self.lanes.take(threads), Some((number, "turn")));
            self.end(number, threads, millis);
            threads
        }

        fn end(&mut self, number: usize, threads: Level, millis: u64) -> bool {
            let used = Duration::from_millis(millis);
            self.now += used;
            self.lanes.give_back(number, threads, used, self.now)
        }
    }

    #[test]
    fn the_lane_that_has_used_the_least_is_next_and_idling_saves_up_nothing() {
        let mut bench = Bench::new(3);
        for _ in 0..10 {
            bench.turn(0, 1);
        }
        // What it has used does not count against one that comes now.
        for (number, what) in [(1, "first"), (0, "second"), (0, "third")] {
            bench.lanes.push(number, Slow, what);
        }
        assert_eq!(bench.lanes.take(Slow), Some((1, "first")));
        bench.end(1, Slow, 5);
        bench.lanes.push(1, Slow, "last");
        assert_eq!(bench.lanes.take(Slow), Some((0, "second")));
        bench.end(0, Slow, 1);
        assert_eq!(bench.lanes.take(Slow), Some((0, "third")));
        bench.end(0, Slow, 1);
        assert_eq!(bench.lanes.take(Slow), Some((1, "last")));
        assert_eq!(bench.lanes.take(Slow), None);
        assert_eq!(bench.lanes.take(Quick), None);
    }

    #[test]
    fn a_lane_has_so_many_quick_threads_and_no_more() {
        let mut bench = Bench::new(2);
        for what in ["a", "b", "c"] {
            bench.lanes.push(0, Quick, what);
        }
        assert_eq!(bench.lanes.take(Quick), Some((0, "a")));
        assert_eq!(bench.lanes.take(Quick), Some((0, "b")));
        assert_eq!(bench.lanes.take(Quick), None);
        bench.lanes.push(1, Quick, "other");
        assert_eq!(bench.lanes.take(Quick), Some((1, "other")));
        bench.end(0, Quick, 1);
        assert_eq!(bench.lanes.take(Quick), Some((0, "c")));
    }

    #[test]
    fn who_uses_far_more_than_another_gives_way_for_as_long_as_it_has_something_to_run() {
        let mut bench = Bench::new(2);
        // Alone it may take all there is.
        for _ in 0..100 {
            assert_eq!(bench.turn(0, 5), Quick);
        }
        bench.turn(1, 1);
        bench.turn(0, 10);
        assert_eq!(bench.turn(0, 1), Slow);
        assert_eq!(bench.turn(1, 1), Quick);
        // It has used nothing meanwhile.
        for _ in 0..3 {
            assert_eq!(bench.lanes.push(0, Quick, "waits"), Slow);
            bench.now += WINDOW;
            bench.turn(1, 0);
        }
        while let Some((0, "waits")) = bench.lanes.take(Slow) {
            bench.end(0, Slow, 0);
        }
        bench.now += WINDOW;
        bench.turn(1, 0);
        assert_eq!(bench.turn(0, 1), Quick);
    }

    #[test]
    fn who_is_alone_again_gives_way_no_longer_whatever_it_has_to_run() {
        let mut bench = Bench::new(2);
        bench.turn(1, 1);
        bench.turn(0, 10);
        for _ in 0..5 {
            assert_eq!(bench.lanes.push(0, Quick, "waits"), Slow);
        }
        assert_eq!(bench.lanes.take(Slow), Some((0, "waits")));
        bench.now += RECENT;
        assert!(bench.end(0, Slow, 1));
        assert_eq!(bench.lanes.take(Slow), None);
        for _ in 0..4 {
            assert_eq!(bench.lanes.take(Quick), Some((0, "waits")));
            bench.end(0, Quick, 10);
        }
        for _ in 0..10 {
            assert_eq!(bench.turn(0, 10), Quick);
        }
    }

    #[test]
    fn who_has_used_far_more_is_not_let_go_at_the_end_of_its_own_turn() {
        let mut bench = Bench::new(2);
        bench.turn(1, 0);
        bench.turn(0, 10);
        for _ in 0..10 {
            assert_eq!(bench.turn(0, 10), Slow);
        }
    }

    #[test]
    fn who_waits_for_a_turn_is_at_work() {
        let mut bench = Bench::new(2);
        bench.turn(0, 10);
        bench.lanes.push(1, Slow, "waits");
        bench.turn(0, 10);
        assert_eq!(bench.lanes.push(0, Quick, "next"), Slow);
    }

    #[test]
    fn what_runs_while_all_is_cleared_can_be_given_back() {
        let mut bench = Bench::new(2);
        for (number, level, what) in [(0, Quick, "runs"), (0, Quick, "quick"), (1, Slow, "slow")] {
            bench.lanes.push(number, level, what);
        }
        assert_eq!(bench.lanes.take(Quick), Some((0, "runs")));
        assert_eq!(bench.lanes.clear(), ["quick", "slow"]);
        bench.end(0, Quick, 20);
        for threads in [Quick, Slow] {
            assert_eq!(bench.lanes.take(threads), None);
        }
    }

    #[test]
    fn neither_who_uses_little_nor_who_uses_as_much_as_others_is_greedy() {
        let mut alike = Bench::new(2);
        for _ in 0..100 {
            assert_eq!(alike.turn(0, 5), Quick);
            assert_eq!(alike.turn(1, 8), Quick);
        }
        let mut little = Bench::new(2);
        for _ in 0..100 {
            assert_eq!(little.turn(0, 0), Quick);
            assert_eq!(little.turn(1, 8), Quick);
            little.now += WINDOW;
        }
    }

    #[test]
    fn what_waits_goes_over_to_other_threads_with_its_lane_and_quick_and_slow_calls_take_turns() {
        let mut bench = Bench::new(2);
        bench.turn(1, 0);
        bench.lanes.push(0, Quick, "long");
        for what in ["slow 1", "slow 2"] {
            bench.lanes.push(0, Slow, what);
        }
        for what in ["quick 1", "quick 2", "quick 3"] {
            bench.lanes.push(0, Quick, what);
        }
        assert_eq!(bench.lanes.take(Quick), Some((0, "long")));
        assert!(bench.end(0, Quick, 20));
        assert_eq!(bench.lanes.take(Quick), None);
        for what in ["slow 1", "quick 1", "slow 2", "quick 2", "quick 3"] {
            assert_eq!(bench.lanes.take(Slow), Some((0, what)));
        }
        assert_eq!(bench.lanes.take(Slow), None);
    }
}
