//! The last lines a container wrote, bounded in bytes, with followers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

/// Kept per container.
const BYTE_LIMIT: usize = 256 << 10;
/// A longer line is cut into several.
const LINE_LIMIT: usize = 16 << 10;

/// A container's log.
#[derive(Default)]
pub(crate) struct Ring {
    lines: RefCell<Lines>,
    written: Notify,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    /// Number of the line after the last one; the first kept line is `next - kept.len()`.
    next: u64,
}

impl Ring {
    /// A ring that is filled from the read end of a pipe until all writers have closed it.
    pub(crate) fn fed_by(pipe: OwnedFd) -> std::io::Result<Rc<Self>> {
        let ring = Rc::new(Self::default());
        let receiver = pipe::Receiver::from_owned_fd(pipe)?;
        tokio::task::spawn_local(feed(Rc::clone(&ring), receiver));
        Ok(ring)
    }

    /// Adds a line of the runner's own.
    pub(crate) fn push(&self, line: String) {
        let mut lines = self.lines.borrow_mut();
        lines.bytes += line.len();
        lines.kept.push_back(line);
        lines.next += 1;
        while lines.bytes > BYTE_LIMIT {
            let Some(oldest) = lines.kept.pop_front() else { break };
            lines.bytes -= oldest.len();
        }
        drop(lines);
        self.written.notify_waiters();
    }

    /// The last `count` lines, and where to go on reading.
    pub(crate) fn tail(&self, count: usize) -> (Vec<String>, u64) {
        let lines = self.lines.borrow();
        let skipped = lines.kept.len().saturating_sub(count);
        (lines.kept.iter().skip(skipped).cloned().collect(), lines.next)
    }

    /// Lines from number `from` on, waiting until there is one; those already dropped are left out.
    pub(crate) async fn follow(&self, from: u64) -> (Vec<String>, u64) {
        loop {
            let written = self.written.notified();
            {
                let lines = self.lines.borrow();
                if lines.next > from {
                    let wanted = usize::try_from(lines.next - from).unwrap_or(usize::MAX);
                    let skipped = lines.kept.len().saturating_sub(wanted);
                    return (lines.kept.iter().skip(skipped).cloned().collect(), lines.next);
                }
            }
            written.await;
        }
    }
}

async fn feed(ring: Rc<Ring>, mut pipe: pipe::Receiver) {
    let mut pending = Vec::new();
    let mut chunk = vec![0; 8 << 10];
    loop {
        match pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => pending.extend_from_slice(&chunk[..length]),
        }
        while let Some(end) = line_end(&pending) {
            let line: Vec<u8> = pending.drain(..end).collect();
            ring.push(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
        }
    }
    if !pending.is_empty() {
        ring.push(String::from_utf8_lossy(&pending).into_owned());
    }
}

fn line_end(pending: &[u8]) -> Option<usize> {
    let newline = pending.iter().position(|byte| *byte == b'\n').map(|position| position + 1);
    newline.or_else(|| (pending.len() >= LINE_LIMIT).then_some(LINE_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_lines_within_its_bound() {
        let ring = Ring::default();
        for number in 0..10_000 {
            ring.push(format!("{number:0100}"));
        }
        let (lines, next) = ring.tail(usize::MAX);
        assert_eq!(next, 10_000);
        assert_eq!(lines.len(), BYTE_LIMIT / 100);
        assert!(lines.last().unwrap().ends_with("9999"));
    }

    #[tokio::test]
    async fn a_follower_sees_each_line_once() {
        let ring = Ring::default();
        ring.push("one".into());
        let (_, next) = ring.tail(10);
        ring.push("two".into());
        assert_eq!(ring.follow(next).await, (vec!["two".to_owned()], next + 1));
    }
}
