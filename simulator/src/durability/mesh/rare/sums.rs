//! Sums over samples of what is lost of a mesh, and the figures with intervals that come of them.

use super::super::super::estimate::Method;
use super::MeshEstimate;
use serde::Serialize;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Share {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    pub(super) fn relative_error(&self) -> f64 {
        if self.value > 0.0 { (self.high - self.low) / 2.0 / self.value } else { f64::INFINITY }
    }
}

/// The four figures of one sample, in the order of [`MeshEstimate`].
pub(super) type Four = [f64; 4];

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) samples: u64,
    pub(super) sum: Four,
    pub(super) square: Four,
    pub(super) largest: f64,
    pub(super) events: u64,
}

impl Sums {
    pub(super) fn add(&mut self, four: Four, events: u64) {
        self.samples += 1;
        for (index, value) in four.into_iter().enumerate() {
            self.sum[index] += value;
            self.square[index] += value * value;
        }
        self.largest = self.largest.max(four[0]);
        self.events += events;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        for index in 0..4 {
            self.sum[index] += other.sum[index];
            self.square[index] += other.square[index];
        }
        self.largest = self.largest.max(other.largest);
        self.events += other.events;
    }

    pub(super) fn share(&self, index: usize, deviations: f64) -> Share {
        let n = self.samples as f64;
        let value = self.sum[index] / n;
        let variance = (self.square[index] / n - value * value).max(0.0) / (n - 1.0).max(1.0);
        let half = deviations * variance.sqrt();
        Share { value, low: (value - half).max(0.0), high: value + half }
    }

    pub(super) fn effective(&self) -> f64 {
        if self.square[0] > 0.0 { self.sum[0] * self.sum[0] / self.square[0] } else { 0.0 }
    }

    pub(super) fn estimate(
        &self,
        method: Method,
        deviations: f64,
        doubts: Vec<String>,
    ) -> MeshEstimate {
        let probability = |index| {
            let share = self.share(index, deviations);
            Share { value: share.value.min(1.0), high: share.high.min(1.0), ..share }
        };
        MeshEstimate {
            method,
            any: probability(0),
            much: probability(1),
            all: probability(2),
            stripes: self.share(3, deviations),
            samples: self.samples,
            effective: self.effective(),
            events: self.events,
            doubts,
        }
    }
}
