//! What processes use, seen from outside: memory and processor time from /proc. Must not know: what they are measured for.

use nix::sys::resource::{UsageWho, getrusage};
use std::io;
use std::time::Duration;

/// A tick of /proc/PID/stat is a hundredth of a second on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// The processes of a server; what they use is added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) ids: Vec<u32>,
}

/// Processor time used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Kernel and user, to the nanosecond.
    pub(crate) all: Duration,
    /// In ticks: outside the kernel, and in all.
    pub(crate) user_ticks: u64,
    pub(crate) ticks: u64,
}

impl CpuTime {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            ticks: self.ticks.saturating_sub(before.ticks),
        }
    }

    /// The part of it outside the kernel; unknown if it was too short to tell.
    pub(crate) fn user_share(self) -> Option<f64> {
        const ENOUGH: u64 = 20;
        (self.ticks >= ENOUGH).then(|| self.user_ticks as f64 / self.ticks as f64)
    }
}

impl Processes {
    pub(crate) const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Proportional resident size in bytes: what they share with others counts in part.
    ///
    /// # Errors
    /// When a process has gone, or belongs to somebody else.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        self.sum("smaps_rollup", |text| kilobytes(text, "Pss:"))
    }

    /// Resident size in bytes, which is cheap to look at often.
    ///
    /// # Errors
    /// When a process has gone.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        self.sum("status", |text| kilobytes(text, "VmRSS:"))
    }

    /// Processor time of all their threads that still run.
    ///
    /// # Errors
    /// When a process has gone.
    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        let mut sum = CpuTime::default();
        for id in &self.ids {
            sum.all += tasks(*id)?;
            let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
            let (user, system) = ticks(&text).unwrap_or_default();
            sum.user_ticks += user;
            sum.ticks += user + system;
        }
        Ok(sum)
    }

    fn sum(&self, file: &str, value: impl Fn(&str) -> Option<u64>) -> io::Result<u64> {
        let of = |id: &u32| {
            let text = std::fs::read_to_string(format!("/proc/{id}/{file}"))?;
            value(&text)
                .ok_or_else(|| io::Error::other(format!("/proc/{id}/{file} is written in another way")))
        };
        self.ids.iter().map(of).sum()
    }
}

/// The value of a line such as `Pss:   12 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn tasks(id: u32) -> io::Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end between the look into the folder and the look at it.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

/// User and system ticks; the name before them may have spaces and brackets.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Processor time of this process.
pub(crate) fn own_cpu() -> Duration {
    used(UsageWho::RUSAGE_SELF)
}

/// Processor time of this thread.
pub(crate) fn own_thread_cpu() -> Duration {
    used(UsageWho::RUSAGE_THREAD)
}

fn used(who: UsageWho) -> Duration {
    let Ok(usage) = getrusage(who) else { return Duration::ZERO };
    let span = |time: nix::sys::time::TimeVal| {
        let micros = i128::from(time.tv_sec()) * 1_000_000 + i128::from(time.tv_usec());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    span(usage.user_time()) + span(usage.system_time())
}

/// Processor time that the whole machine has been busy.
pub(crate) fn machine_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    busy(text.lines().next().unwrap_or_default())
}

fn busy(line: &str) -> Duration {
    // user nice system idle iowait irq softirq: all but the two that are rest.
    let fields = line.split_whitespace().skip(1).take(7).map(|field| field.parse::<u64>().unwrap_or(0));
    let ticks: u64 =
        fields.enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let line = "7 (a) b (c) d) S 1 7 7 0 -1 4194304 1 2 3 4 55 66 0 0 20 0 1 0 9 9 9";
        assert_eq!(ticks(line), Some((55, 66)));
        assert_eq!(ticks("nonsense"), None);
        assert_eq!(busy("cpu  1 2 3 1000 2000 4 5 6 7 8"), TICK * 15);
    }

    #[test]
    fn this_process_uses_something() {
        let own = Processes { ids: vec![std::process::id()] };
        assert!(own.memory().unwrap() > 100_000);
        assert!(own.resident().unwrap() > 100_000);
        assert!(own.cpu().unwrap().all > Duration::ZERO);
        assert!(own_cpu() > Duration::ZERO);
        assert!(Processes { ids: vec![u32::MAX] }.cpu().is_err());
    }

    #[test]
    fn a_share_is_told_only_after_enough_time() {
        let time = |user_ticks, ticks| CpuTime { all: Duration::ZERO, user_ticks, ticks };
        assert_eq!(time(3, 10).user_share(), None);
        assert_eq!(time(15, 60).since(time(5, 20)).user_share(), Some(0.25));
    }
}
