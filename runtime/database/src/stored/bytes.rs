//! Numbers and byte strings one after another.
//!
//! In: values, or bytes. Out: the other. Invariant: reading past the end is an error.

/// Appends a number, little-endian.
pub(super) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a count, little-endian.
pub(super) fn put_u32(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a commit is smaller than 4 GiB");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Writes a count over the one at `place`.
pub(super) fn set_u32(out: &mut [u8], place: usize, count: usize) {
    let count = u32::try_from(count).expect("a commit is smaller than 4 GiB");
    out[place..place + 4].copy_from_slice(&count.to_le_bytes());
}

/// Appends bytes after their length.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What is left to read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ()> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(())?;
        self.0 = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ()> {
        self.take(N)?.try_into().map_err(|_| ())
    }

    pub(super) fn u8(&mut self) -> Result<u8, ()> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, ()> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, ()> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ()> {
        let length = self.u32()? as usize;
        self.take(length)
    }
}
