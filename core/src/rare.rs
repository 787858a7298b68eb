//! What few connections have, kept apart so that the many without are small.

/// Something that is made when it is first wanted.
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Rare(None)
    }
}

impl<T: Default> Rare<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// What there is, empty if there is nothing.
    pub(crate) fn into_inner(self) -> T {
        self.0.map(|it| *it).unwrap_or_default()
    }

    /// Lets go of it if it is of no use now.
    pub(crate) fn drop_if(&mut self, useless: impl FnOnce(&T) -> bool) {
        self.0.take_if(|it| useless(it));
    }
}
