//! Commits in this process's memory: gone with it.
//!
//! In: records and changes. Out: the same. Invariant: as of every [`LogStore`], except that there
//! is no disk that could fail.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::{Changes, LogStore, Record, StoreError, Take};

/// Commits in memory.
pub struct MemoryLog(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    records: BTreeMap<u64, Record>,
    at: u64,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryLog {
    /// Nothing yet; history begins at `at`.
    pub fn new(at: u64) -> Self {
        Self(Mutex::new(Kept { at, ..Kept::default() }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryLog {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let records = records.iter().map(|record| (record.ts, record.clone()));
        self.kept().records.extend(records);
        Ok(())
    }

    fn read(&self, after: u64, bytes: usize) -> Result<Vec<Record>, StoreError> {
        let mut left = bytes;
        let mut read = Vec::new();
        for record in self.kept().records.range(after + 1..).map(|(_, record)| record) {
            if !read.is_empty() && record.body.len() > left {
                break;
            }
            left = left.saturating_sub(record.body.len());
            read.push(record.clone());
            if left == 0 {
                break;
            }
        }
        Ok(read)
    }

    fn load(&self, take: Take<'_>) -> Result<u64, StoreError> {
        let kept = self.kept();
        for (key, value) in &kept.pairs {
            let file = "memory".to_owned();
            take(key, value).map_err(|what| StoreError::Damaged { file, what })?;
        }
        Ok(kept.at)
    }

    fn checkpoint(&self, ts: u64, changes: &Changes) -> Result<(), StoreError> {
        let mut kept = self.kept();
        if let Some(forgotten) = &changes.forgotten {
            kept.pairs.retain(|key, _| !forgotten.contains(key));
        }
        for (key, value) in &changes.pairs {
            match value {
                Some(value) => drop(kept.pairs.insert(key.clone(), value.clone())),
                None => drop(kept.pairs.remove(key)),
            }
        }
        kept.at = ts;
        Ok(())
    }

    fn trim(&self, ts: u64, count: usize) -> Result<usize, StoreError> {
        let mut kept = self.kept();
        let gone: Vec<u64> = kept.records.range(..=ts).map(|(ts, _)| *ts).take(count).collect();
        gone.iter().for_each(|ts| drop(kept.records.remove(ts)));
        Ok(gone.len())
    }

    fn size(&self) -> Result<u64, StoreError> {
        let kept = self.kept();
        let records: usize = kept.records.values().map(|record| record.body.len()).sum();
        let pairs: usize = kept.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        Ok((records + pairs) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves() {
        crate::log::tests::behaves(&MemoryLog::new(5));
    }
}
