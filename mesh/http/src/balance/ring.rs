//! Ketama's ring: each member has points `xxh64("KEY_i")`, and a request goes to the member of the first point not below its hash.

use xxhash_rust::xxh64::xxh64;

/// A ring, in the order of its points.
#[derive(Debug)]
pub(super) struct Ring(Vec<(u64, u32)>);

impl Ring {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "Envoy's shares are doubles, and small"
    )]
    pub(super) fn new(keys: &[&str], weights: &[u64], minimum: u64, maximum: u64) -> Self {
        let sum: u64 = weights.iter().sum();
        let (Some(least), true) = (weights.iter().min(), sum > 0) else {
            return Self(Vec::new());
        };
        // So many points that the lightest member has a whole number of them, and all together at least the minimum.
        let least = *least as f64 / sum as f64;
        let scale = ((least * minimum as f64).ceil() / least).min(maximum as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut target, mut current) = (0.0, 0.0);
        for (member, (key, weight)) in keys.iter().zip(weights).enumerate() {
            target += scale * (*weight as f64 / sum as f64);
            let mut point = 0;
            while current < target {
                points.push((xxh64(format!("{key}_{point}").as_bytes(), 0), member as u32));
                point += 1;
                current += 1.0;
            }
        }
        points.sort_unstable();
        Self(points)
    }

    pub(super) fn member(&self, hash: u64) -> Option<usize> {
        let at = self.0.partition_point(|(point, _)| *point < hash);
        self.0.get(at).or(self.0.first()).map(|(_, member)| *member as usize)
    }

    #[cfg(test)]
    pub(super) fn points(&self) -> usize {
        self.0.len()
    }
}
