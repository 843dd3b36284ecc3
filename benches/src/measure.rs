//! Reading the machine: time spent by this thread, memory of this process, blocks of a directory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time that this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What `work` returns, and the CPU time that this thread spent in it.
pub(crate) fn cpu<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let began = thread_cpu();
    let result = work();
    (result, thread_cpu() - began)
}

/// What `work` returns, and how long it took.
pub(crate) fn wall<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
}

/// Resident bytes of this process.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Bytes of the blocks that the files under `directory` occupy.
pub(crate) fn disk(directory: &Path) -> std::io::Result<u64> {
    let mut blocks = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        blocks += if metadata.is_dir() { disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(blocks)
}

/// The smallest value that `percent` of the sorted values do not exceed.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values[index.clamp(1, values.len()) - 1]
}
