//! How much is held of each vault, and of all together: that is asked for with every message that tells how much room there is.

use super::Usage;
use crate::id::VaultId;
use std::collections::BTreeMap;
use std::ops::Deref;

/// How much is held. It is read like a map.
#[derive(Debug, Default)]
pub(super) struct Usages {
    by_vault: BTreeMap<VaultId, Usage>,
    total: Usage,
}

impl Deref for Usages {
    type Target = BTreeMap<VaultId, Usage>;

    fn deref(&self) -> &Self::Target {
        &self.by_vault
    }
}

impl Usages {
    /// So much more of a vault, and so much less.
    pub(super) fn change(&mut self, vault: VaultId, more: Usage, less: Usage) {
        let usage = self.by_vault.entry(vault).or_default();
        let before = *usage;
        *usage = usage.plus(more).minus(less);
        self.total = self.total.plus(*usage).minus(before);
    }

    /// Of all vaults.
    pub(super) fn total(&self) -> Usage {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_total_is_the_sum_whatever_comes_and_goes(
            changes in prop::collection::vec((0u8..4, any::<bool>(), 0u64..1000), 0..60),
        ) {
            let mut usages = Usages::default();
            for (vault, comes, len) in changes {
                let (one, none) = (Usage::of_one(len), Usage::default());
                let (more, less) = if comes { (one, none) } else { (none, one) };
                usages.change(VaultId([vault; 32]), more, less);
                let sum = usages.values().fold(Usage::default(), |sum, usage| sum.plus(*usage));
                prop_assert_eq!(usages.total(), sum);
            }
        }
    }
}
