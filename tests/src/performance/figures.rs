//! Figures: several measurements of one thing, and how they are written.

use std::fmt;

/// Several measurements of the same thing, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// Of these measurements. `None` if there are none, or one is not a number.
    pub fn new(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let sound = !figures.is_empty() && figures.iter().all(|figure| figure.is_finite());
        sound.then_some(Self(figures))
    }

    /// The one in the middle, or what lies halfway between the two there.
    pub fn median(&self) -> f64 {
        let (low, high) = ((self.0.len() - 1) / 2, self.0.len() / 2);
        (self.0[low] + self.0[high]) / 2.0
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The greatest.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The median, and the spread if there are several, in a unit.
    pub fn written(&self, unit: Unit) -> String {
        let median = unit.written(self.median());
        if self.count() == 1 {
            return median;
        }
        let (divisor, _) = unit.scale(self.median());
        format!("{median} ({}..{})", digits(self.min() / divisor), digits(self.max() / divisor))
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// When it is requests a second.
    Rate,
    /// When it is a time, in microseconds.
    Micros,
    /// When it is a share of one core, in percent.
    Percent,
    /// When it is bytes.
    Bytes,
}

impl Unit {
    /// The figure as people write it, with three digits.
    pub fn written(self, figure: f64) -> String {
        let (divisor, suffix) = self.scale(figure);
        format!("{} {suffix}", digits(figure / divisor))
    }

    /// What a figure of that size is divided by to be written, and what is written behind it.
    fn scale(self, figure: f64) -> (f64, &'static str) {
        match (self, figure) {
            (Self::Rate, 1e6..) => (1e6, "M/s"),
            (Self::Rate, 1e3..) => (1e3, "k/s"),
            (Self::Rate, _) => (1.0, "/s"),
            (Self::Micros, 1e6..) => (1e6, "s"),
            (Self::Micros, 1e3..) => (1e3, "ms"),
            (Self::Micros, _) => (1.0, "µs"),
            (Self::Percent, _) => (1.0, "%"),
            (Self::Bytes, 1048576.0..) => (1048576.0, "MiB"),
            (Self::Bytes, _) => (1.0, "B"),
        }
    }
}

/// A number with three digits, more if they stand before the point.
pub fn digits(figure: f64) -> Digits {
    Digits(figure)
}

/// See [`digits`].
#[derive(Clone, Copy, Debug)]
pub struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = match self.0.abs() {
            ..9.995 => 2,
            ..99.95 => 1,
            _ => 0,
        };
        write!(f, "{:.places$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: &[f64]) -> Series {
        Series::new(figures.to_vec()).unwrap()
    }

    #[test]
    fn the_median_is_the_one_in_the_middle_whatever_their_order() {
        assert_eq!(series(&[9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(series(&[4.0, 1.0, 2.0, 100.0]).median(), 3.0);
        assert_eq!(series(&[7.0]).median(), 7.0);
        let spread = series(&[3.0, 1.0, 2.0]);
        assert_eq!((spread.min(), spread.max(), spread.count()), (1.0, 3.0, 3));
        assert_eq!(Series::new(vec![]), None);
        assert_eq!(Series::new(vec![1.0, f64::NAN]), None);
    }

    #[test]
    fn figures_are_written_with_three_digits_and_their_spread() {
        assert_eq!(series(&[2.0e6, 1.0e6, 1.5e6]).written(Unit::Rate), "1.50 M/s (1.00..2.00)");
        assert_eq!(series(&[0.9e3, 1.1e3, 20e3]).written(Unit::Micros), "1.10 ms (0.90..20.0)");
        assert_eq!(series(&[193_400.0]).written(Unit::Rate), "193 k/s");
        assert_eq!(Unit::Micros.written(0.934), "0.93 µs");
        assert_eq!(Unit::Micros.written(3_400.0), "3.40 ms");
        assert_eq!(Unit::Bytes.written(250.4), "250 B");
        assert_eq!(Unit::Bytes.written(20.0 * 1048576.0), "20.0 MiB");
        assert_eq!(Unit::Percent.written(0.2), "0.20 %");
    }
}
