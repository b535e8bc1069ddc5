//! Sizes as people read them, in what holders and the planner say: rounded, in binary units. What people write is read by `node`.

use std::fmt;

/// Binary units, the largest first.
pub const UNITS: [(&str, u64); 6] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A number of bytes: shows `1.5 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&rounded(self.0))
    }
}

fn rounded(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let bytes = u128::from(bytes);
    let nearest = |unit: u128| (bytes + unit / 2) / unit;
    // The smallest unit in which the number shown stays below 1024; 2^64 is below that in the largest.
    let (name, unit) = UNITS
        .into_iter()
        .rev()
        .map(|(name, unit)| (name, u128::from(unit)))
        .find(|(_, unit)| nearest(*unit) < 1024)
        .expect("2^64 bytes are 16 EiB");
    let tenths = (bytes * 10 + unit / 2) / unit;
    match (tenths / 10, tenths % 10) {
        (100.., _) => format!("{} {name}", nearest(unit)),
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_what_people_read() {
        let text = |bytes: u64| Size(bytes).to_string();
        assert_eq!(text(0), "0 B");
        assert_eq!(text(1023), "1023 B");
        assert_eq!(text((1 << 20) - 1), "1 MiB");
        assert_eq!(text(20 << 20), "20 MiB");
        assert_eq!(text(u64::MAX), "16 EiB");
    }
}
