//! Old views, until nobody uses them.
//!
//! Freeing a state of thousands of flags takes time, and it must not be taken from a request. So old views wait
//! here, on the feed's thread, and are freed here. And as long as the program holds one on purpose, operators
//! are told so. The time is an argument.

use std::sync::Arc;
use std::time::Duration;

use crate::status::HeldSnapshots;
use crate::view::View;

/// Old views and when each was replaced.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    views: Vec<(Arc<View>, u64)>,
}

impl Retired {
    /// Takes a view that is no longer in use.
    pub(crate) fn add(&mut self, view: Arc<View>, now_ms: u64) {
        self.views.push((view, now_ms));
    }

    /// Frees what nobody uses any more and tells what is still held on purpose.
    pub(crate) fn sweep(&mut self, now_ms: u64) -> HeldSnapshots {
        self.views.retain(|(view, _)| Arc::strong_count(view) > 1);
        let mut held = self.views.iter().filter(|(view, _)| view.is_held());
        let Some((oldest, since_ms)) = held.next() else { return HeldSnapshots::default() };
        HeldSnapshots {
            count: u32::try_from(held.count()).unwrap_or(u32::MAX).saturating_add(1),
            oldest_revision: oldest.position.revision.0,
            oldest_age: Duration::from_millis(now_ms.saturating_sub(*since_ms)),
        }
    }

    /// Whether anything waits to be freed.
    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_freed_when_nobody_uses_it_and_held_while_somebody_does_on_purpose() {
        let mut retired = Retired::default();
        let held = Arc::new(View::nothing());
        held.hold();
        let in_passing = Arc::new(View::nothing());
        retired.add(Arc::clone(&held), 1_000);
        retired.add(Arc::clone(&in_passing), 2_000);
        retired.add(Arc::new(View::nothing()), 3_000);
        let told = retired.sweep(4_000);
        assert_eq!((told.count, told.oldest_age), (1, Duration::from_secs(3)));
        assert_eq!(retired.views.len(), 2);
        held.release();
        drop((held, in_passing));
        assert_eq!(retired.sweep(5_000), HeldSnapshots::default());
        assert!(retired.is_empty());
    }
}
