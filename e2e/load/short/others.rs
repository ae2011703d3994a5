//! What the rest of the machine does while we measure.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::process::processor_time;

/// Watches all processors from one moment on.
pub(super) struct Watch {
    since: Instant,
    all: Duration,
    own: Duration,
}

impl Watch {
    pub(super) fn start() -> anyhow::Result<Self> {
        let own = processor_time(std::process::id());
        Ok(Self { since: Instant::now(), all: busy()?.0, own })
    }

    /// The share of all processors that others had: not this process, nor those that have used `children` since.
    pub(super) fn others(&self, children: Duration) -> anyhow::Result<f64> {
        let (all, processors) = busy()?;
        let own = processor_time(std::process::id()).saturating_sub(self.own) + children;
        let others = all.saturating_sub(self.all).saturating_sub(own);
        Ok(others.as_secs_f64() / self.since.elapsed().as_secs_f64() / f64::from(processors))
    }
}

/// For how long processors have been doing anything since the machine was started, and how many there are.
fn busy() -> anyhow::Result<(Duration, u32)> {
    parse(&std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?)
}

/// The first line of `/proc/stat` has ticks of 10 ms (the kernel's ABI on all architectures that we know): user, nice,
/// system, idle, iowait, irq, softirq, steal. Time stolen by another virtual machine is somebody else's too.
fn parse(stat: &str) -> anyhow::Result<(Duration, u32)> {
    let mut lines = stat.lines();
    let total = lines.next().context("/proc/stat is empty")?;
    let ticks = total.split_whitespace().skip(1).take(8).map(str::parse::<u64>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>().context("/proc/stat has other fields than expected")?;
    let busy: u64 =
        ticks.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum();
    let processors = lines.take_while(|line| line.starts_with("cpu")).count();
    Ok((Duration::from_millis(busy * 10), u32::try_from(processors)?.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_idle_nor_waiting_is_busy() {
        let stat = "cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 1 2\ncpu1 0 0\nintr 1\n";
        assert_eq!(parse(stat).unwrap(), (Duration::from_millis(630), 2));
        assert!(parse("cpu x\n").is_err());
    }
}
