//! The host's limits: one cgroup per sandbox, version 1 or 2.
//!
//! Everything of a sandbox (runsc, its gofer, gVisor's kernel and its helpers)
//! is born inside, so the group's members are the sandbox: killing all of them
//! kills it, and an empty group means that nothing of it runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use creto_runtime::Limits;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All our groups lie under one of this name.
const PARENT: &str = "creto";

/// Host threads that gVisor itself needs, whatever the program does.
const HOST_TASKS_BASE: u64 = 1024;
/// Host threads that one process of the program may cost under gVisor.
const HOST_TASKS_PER_PROCESS: u64 = 16;

/// How the machine's controllers are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// One folder per controller.
    V1 {
        memory: PathBuf,
        pids: PathBuf,
        cpu: Option<PathBuf>,
    },
    /// One folder for all.
    V2 { root: PathBuf },
}

impl Hierarchy {
    /// Reads the mount table. The message of an error says what is missing.
    pub(crate) fn discover() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts")
            .map_err(|error| format!("/proc/self/mounts cannot be read: {error}"))?;
        let found = Self::from_mounts(&mounts)
            .ok_or("no cgroup mount has the memory and pids controllers")?;
        if let Self::V2 { root } = &found {
            let controllers =
                fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            let has = |name| controllers.split_whitespace().any(|known| known == name);
            if !has("memory") || !has("pids") {
                return Err(format!(
                    "{} offers only the controllers `{}`",
                    root.display(),
                    controllers.trim()
                ));
            }
        }
        Ok(found)
    }

    fn from_mounts(mounts: &str) -> Option<Self> {
        let entries: Vec<(&str, &str, Vec<&str>)> = mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let place = fields.next()?;
                let kind = fields.next()?;
                let options = fields.next()?.split(',').collect();
                Some((place, kind, options))
            })
            .collect();
        let controller = |name: &str| {
            entries
                .iter()
                .find(|(_, kind, options)| *kind == "cgroup" && options.contains(&name))
                .map(|(place, ..)| PathBuf::from(place))
        };
        if let (Some(memory), Some(pids)) = (controller("memory"), controller("pids")) {
            return Some(Self::V1 {
                memory,
                pids,
                cpu: controller("cpu"),
            });
        }
        entries
            .iter()
            .find(|(_, kind, _)| *kind == "cgroup2")
            .map(|(place, ..)| Self::V2 { root: place.into() })
    }

    /// Makes the controllers available below our own group, which version 2 asks
    /// for. The message of an error says what to do.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let Self::V2 { root } = self else {
            return Ok(());
        };
        let parent = root.join(PARENT);
        fs::create_dir_all(&parent)?;
        for folder in [root, &parent] {
            let controllers = if self.has_cpu() {
                "+memory +pids +cpu"
            } else {
                "+memory +pids"
            };
            write(folder, "cgroup.subtree_control", controllers)?;
        }
        Ok(())
    }

    /// In words, for `creto doctor`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::V1 { memory, .. } => {
                format!("version 1, memory controller at {}", memory.display())
            }
            Self::V2 { root } => format!("version 2 at {}", root.display()),
        }
    }

    /// Whether processor time can be limited.
    pub(crate) fn has_cpu(&self) -> bool {
        match self {
            Self::V1 { cpu, .. } => cpu.is_some(),
            Self::V2 { root } => fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|name| name == "cpu")),
        }
    }

    /// The group of a sandbox, whether it exists or not.
    pub(crate) fn group(&self, name: &str) -> Cgroup {
        let under = |root: &Path| root.join(PARENT).join(name);
        let folders = match self {
            Self::V1 { memory, pids, cpu } => {
                let mut folders = vec![under(memory), under(pids)];
                folders.extend(cpu.as_deref().map(under));
                folders
            }
            Self::V2 { root } => vec![under(root)],
        };
        Cgroup {
            hierarchy: self.clone(),
            folders,
        }
    }
}

/// One sandbox's group.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    hierarchy: Hierarchy,
    /// Memory first, then pids, then cpu; the same one folder in version 2.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the group with its limits. On an error the caller removes it.
    pub(crate) fn create(&self, limits: &Limits) -> io::Result<()> {
        match &self.hierarchy {
            Hierarchy::V1 { cpu, .. } => self.create_v1(limits, cpu.is_some()),
            Hierarchy::V2 { .. } => self.create_v2(limits),
        }
    }

    fn create_v1(&self, limits: &Limits, has_cpu: bool) -> io::Result<()> {
        for folder in &self.folders {
            make(folder)?;
        }
        let memory = limits.memory_bytes.to_string();
        write(self.folder(0)?, "memory.limit_in_bytes", &memory)?;
        // Only kernels that account for swap have it.
        let with_swap = self.folder(0)?.join("memory.memsw.limit_in_bytes");
        if with_swap.exists() {
            fs::write(with_swap, &memory)?;
        }
        write(self.folder(1)?, "pids.max", &host_tasks(limits).to_string())?;
        if let Some(quota) = cpu_quota(limits) {
            if !has_cpu {
                return Err(io::Error::other("no cpu controller is mounted"));
            }
            write(self.folder(2)?, "cpu.cfs_period_us", "100000")?;
            write(self.folder(2)?, "cpu.cfs_quota_us", &quota.to_string())?;
        }
        Ok(())
    }

    fn create_v2(&self, limits: &Limits) -> io::Result<()> {
        let quota = cpu_quota(limits);
        let folder = self.folder(0)?;
        make(folder)?;
        write(folder, "memory.max", &limits.memory_bytes.to_string())?;
        write(folder, "memory.oom.group", "1")?;
        if folder.join("memory.swap.max").exists() {
            write(folder, "memory.swap.max", "0")?;
        }
        write(folder, "pids.max", &host_tasks(limits).to_string())?;
        if let Some(quota) = quota {
            write(folder, "cpu.max", &format!("{quota} 100000"))?;
        }
        Ok(())
    }

    fn folder(&self, index: usize) -> io::Result<&Path> {
        self.folders
            .get(index)
            .map(PathBuf::as_path)
            .ok_or_else(|| io::Error::other("the controller has no folder"))
    }

    /// The files to which a process writes `0` to enter.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.folders
            .iter()
            .map(|folder| folder.join("cgroup.procs"))
            .collect()
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(crate) fn out_of_memory_kills(&self) -> io::Result<u64> {
        let file = match self.hierarchy {
            Hierarchy::V1 { .. } => "memory.oom_control",
            Hierarchy::V2 { .. } => "memory.events",
        };
        let text = fs::read_to_string(self.folder(0)?.join(file))?;
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("{file} has no oom_kill count")))
    }

    /// The processes in it.
    fn members(&self) -> io::Result<Vec<i32>> {
        let mut members = Vec::new();
        for entrance in self.entrances() {
            match fs::read_to_string(&entrance) {
                Ok(text) => members.extend(text.lines().filter_map(|line| {
                    // Zero stands for a process of another pid namespace.
                    line.trim().parse::<i32>().ok().filter(|pid| *pid > 0)
                })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The group was removed while it was read.
                Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => {}
                Err(error) => return Err(error),
            }
        }
        members.sort_unstable();
        members.dedup();
        Ok(members)
    }

    /// Kills everything in it and waits until it is empty.
    pub(crate) async fn kill_all(&self) -> io::Result<()> {
        // Killed processes need a moment to leave; ten seconds are many moments.
        for _ in 0..500 {
            let members = self.members()?;
            if members.is_empty() {
                return Ok(());
            }
            for pid in members {
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "killed processes do not end",
        ))
    }

    /// Removes the group. It must be empty; one that does not exist is fine.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        for folder in &self.folders {
            let mut tries = 0_u32;
            loop {
                match fs::remove_dir(folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // The last zombie may not have been reaped yet.
                    Err(error)
                        if error.raw_os_error() == Some(Errno::EBUSY as i32) && tries < 100 =>
                    {
                        tries = tries.saturating_add(1);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn make(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(folder)
}

fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The bound on host threads. The program's own processes are counted by gVisor;
/// this keeps a broken gVisor from taking the host's table of processes.
fn host_tasks(limits: &Limits) -> u64 {
    u64::from(limits.processes)
        .saturating_mul(HOST_TASKS_PER_PROCESS)
        .saturating_add(HOST_TASKS_BASE)
}

/// Microseconds of processor time per 100000.
fn cpu_quota(limits: &Limits) -> Option<u64> {
    limits
        .cpu_millis
        .map(|millis| u64::from(millis).saturating_mul(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_and_the_hybrid_are_recognized() {
        let v1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                  cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                  cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                  cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            Hierarchy::from_mounts(v1),
            Some(Hierarchy::V1 {
                memory: "/sys/fs/cgroup/memory".into(),
                pids: "/sys/fs/cgroup/pids".into(),
                cpu: Some("/sys/fs/cgroup/cpu,cpuacct".into()),
            })
        );
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n";
        assert_eq!(
            Hierarchy::from_mounts(v2),
            Some(Hierarchy::V2 {
                root: "/sys/fs/cgroup".into()
            })
        );
        assert_eq!(Hierarchy::from_mounts("proc /proc proc rw 0 0\n"), None);
    }
}
