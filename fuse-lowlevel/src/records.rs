//! An array of fixed records in a request, of which the length was checked: read one by one, by copy.

use std::marker::PhantomData;
use zerocopy::FromBytes;

/// Whole records, borrowed from the request. Yields them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'r, T> {
    bytes: &'r [u8],
    of: PhantomData<T>,
}

impl<'r, T> Records<'r, T> {
    /// Nothing if `bytes` are not exactly `count` records.
    pub(crate) fn new(bytes: &'r [u8], count: u32) -> Option<Records<'r, T>> {
        let exact = (count as usize).checked_mul(size_of::<T>())? == bytes.len();
        exact.then_some(Records { bytes, of: PhantomData })
    }
}

impl<T: FromBytes> Iterator for Records<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let (record, rest) = T::read_from_prefix(self.bytes).ok()?;
        self.bytes = rest;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.bytes.len() / size_of::<T>();
        (left, Some(left))
    }
}

impl<T: FromBytes> ExactSizeIterator for Records<'_, T> {}
