//! Maglev: a table in which members take entries in turn, each by its own permutation of them.

use xxhash_rust::xxh64::xxh64;

/// A table of members.
#[derive(Debug)]
pub(super) struct Maglev(Vec<u32>);

struct Builder {
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    /// What it has taken of its share, in rounds of the heaviest.
    target: f64,
}

/// Whether a table may be of this size: with a number that is no prime, permutations do not reach every entry.
pub fn is_table_size(size: u64) -> bool {
    (2..=5_000_011).contains(&size) && (2..).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n))
}

impl Maglev {
    /// `size` must be one for which [`is_table_size`] holds.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "weights are u32, the table is far smaller"
    )]
    pub(super) fn new(keys: &[&str], weights: &[u64], size: u64) -> Self {
        let Some(most) = weights.iter().max().map(|most| *most as f64) else {
            return Self(Vec::new());
        };
        let mut builders: Vec<Builder> = keys
            .iter()
            .zip(weights)
            .map(|(key, weight)| Builder {
                offset: xxh64(key.as_bytes(), 0) % size,
                skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
                next: 0,
                weight: *weight as f64,
                target: 0.0,
            })
            .collect();
        let mut table = vec![u32::MAX; usize::try_from(size).unwrap_or_default()];
        let mut filled = 0;
        let mut round = 1.0;
        while filled < table.len() {
            for (member, builder) in builders.iter_mut().enumerate() {
                if filled == table.len() {
                    break;
                }
                // A lighter member sits rounds out: it takes an entry only once its share has grown to the next whole one.
                if round * builder.weight < builder.target {
                    continue;
                }
                builder.target += most;
                let taken = loop {
                    let entry = (builder.offset + builder.skip * builder.next) % size;
                    builder.next += 1;
                    let entry = usize::try_from(entry).unwrap_or_default();
                    if table[entry] == u32::MAX {
                        break entry;
                    }
                };
                table[taken] = member as u32;
                filled += 1;
            }
            round += 1.0;
        }
        Self(table)
    }

    pub(super) fn member(&self, hash: u64) -> Option<usize> {
        let at = hash.checked_rem(self.0.len() as u64)?;
        self.0
            .get(usize::try_from(at).unwrap_or_default())
            .map(|member| *member as usize)
    }
}
