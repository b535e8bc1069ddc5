//! Splitting: level i is "some stripe has had i shards lost at once"; from the states of the last level the mission goes on to its end.

use super::super::super::dice::Dice;
use super::super::super::estimate::{Effort, Method, spread};
use super::super::super::number::student_95;
use super::super::Played;
use super::super::moving::Hand;
use super::super::run::{Run, Step};
use super::MeshEstimate;
use super::sums::{Four, Sums};

/// How many must make it to a level, in one splitting; and splittings between two looks at the interval.
const HITS: usize = 100;
const SPLITTINGS: u64 = 8;

impl Played<'_> {
    pub(super) fn splittings(&self, effort: &Effort) -> MeshEstimate {
        let mut sums = Sums::default();
        let (mut batch, mut given_up) = (0, 0);
        loop {
            let batches = batch..batch + SPLITTINGS;
            let most = effort.events_max / SPLITTINGS;
            let runs = spread(effort.seed, effort.jobs, batches, |_, dice| self.split(most, dice));
            for (four, events) in runs {
                given_up += u64::from(four.is_none());
                sums.add(four.unwrap_or_default(), events);
            }
            batch += SPLITTINGS;
            let deviations = student_95(sums.samples as usize - 1);
            let is_narrow = sums.share(0, deviations).relative_error() <= effort.relative_error;
            if is_narrow || sums.events >= effort.events_max {
                let mut doubts = Vec::new();
                if given_up > 0 {
                    doubts.push(format!(
                        "{given_up} of {} splittings were given up before a loss",
                        sums.samples
                    ));
                }
                return sums.estimate(Method::Splitting, deviations, doubts);
            }
        }
    }

    /// One splitting; `None` when it was given up.
    fn split(&self, events_max: u64, dice: &mut Dice) -> (Option<Four>, u64) {
        let mut hand = self.hand(dice);
        let mut from: Vec<Run> = Vec::new();
        let (mut share, mut events) = (1.0, 0u64);
        for level in 1..=self.spare() + 1 {
            let mut made: Vec<Run> = Vec::with_capacity(HITS);
            let mut tries = 0u64;
            while made.len() < HITS {
                let mut run = if level == 1 {
                    self.start(hand.dice).unwatched()
                } else {
                    self.again(&from, &mut hand)
                };
                let before = run.tally.events;
                tries += 1;
                let made_it = self.reaches(&mut run, &mut hand, level);
                events += run.tally.events - before + 1;
                if made_it {
                    made.push(run);
                }
                if events >= events_max {
                    return (None, events);
                }
            }
            share *= (HITS - 1) as f64 / (tries - 1).max(1) as f64;
            from = made;
        }
        let mut all = [0.0; 4];
        for mut run in from {
            self.forget_future(&mut run, hand.dice);
            self.play(&mut run, &mut hand, self.input.years);
            let tally = self.counted(&run);
            let four = [1.0, tally.much as f64, tally.all as f64, tally.lost as f64];
            all.iter_mut().zip(four).for_each(|(sum, value)| *sum += share * value / HITS as f64);
        }
        (Some(all), events)
    }

    /// A state of the last level, with a future of its own.
    fn again(&self, from: &[Run], hand: &mut Hand<'_>) -> Run {
        let mut run = from[hand.dice.below(from.len())].clone();
        self.forget_future(&mut run, hand.dice);
        run
    }

    /// Plays until some stripe has had so many shards lost at once; whether that was in time.
    fn reaches(&self, run: &mut Run, hand: &mut Hand<'_>, level: u16) -> bool {
        let mut strike = self.next_strike(run.time, hand.dice);
        while run.deepest < level {
            match self.step(run, hand, &mut strike, self.input.years) {
                Step::Over => return false,
                Step::Strike(hit) => self.strike(run, hand, hit),
                Step::Event => {}
            }
        }
        true
    }
}
