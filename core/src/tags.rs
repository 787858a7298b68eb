//! The tags of the subscriptions that a message matched.

use std::{ops::Deref, sync::Arc};

use smallvec::SmallVec;

use crate::id::BindingTag;

/// Tags of the subscriptions that matched, ascending. Every message on its way to a queue carries them, and most
/// carry none: so none take a word, and a copy is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<SmallVec<[BindingTag; 2]>>>);

impl Tags {
    /// Adds those of another subscription to the same destination.
    pub(crate) fn merge(&mut self, other: &Tags) {
        if other.is_empty() {
            return;
        }
        let mut tags: SmallVec<[BindingTag; 2]> = self.iter().chain(&**other).copied().collect();
        tags.sort_unstable();
        *self = Tags(Some(Arc::new(tags)));
    }
}

impl Deref for Tags {
    type Target = [BindingTag];

    fn deref(&self) -> &[BindingTag] {
        self.0.as_deref().map_or(&[], |tags| tags)
    }
}

impl From<BindingTag> for Tags {
    fn from(tag: BindingTag) -> Tags {
        std::iter::once(tag).collect()
    }
}

impl FromIterator<BindingTag> for Tags {
    fn from_iter<I: IntoIterator<Item = BindingTag>>(tags: I) -> Tags {
        let tags: SmallVec<[BindingTag; 2]> = tags.into_iter().collect();
        Tags((!tags.is_empty()).then(|| Arc::new(tags)))
    }
}
