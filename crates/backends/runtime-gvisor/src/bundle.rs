//! The OCI bundle of a sandbox: its root folder and `config.json`
//! (OCI runtime specification 1.0).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use creto_runtime::{Mount, SandboxSpec};
use serde_json::{Value, json};

use crate::network::GATEWAY_ADDRESS;

/// The program's user and group in the sandbox: nobody's on a Debian host.
const USER: u32 = 65_532;

/// Host files that programs need and that say nothing about the host.
const HOST_FILES: [&str; 3] = ["/etc/ssl/certs", "/etc/ld.so.cache", "/etc/alternatives"];

/// Folders of programs at the root; on a merged system all but `/usr` are links
/// into it.
const PROGRAM_FOLDERS: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// Writes the bundle into `folder`, which exists and is empty.
pub(crate) fn write(
    folder: &Path,
    spec: &SandboxSpec,
    network_namespace: &Path,
    tmp_bytes: u64,
) -> io::Result<()> {
    let root = folder.join("rootfs");
    make_folder(&root)?;
    let mut binds = Vec::new();
    for path in PROGRAM_FOLDERS.map(Path::new) {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                symlink(fs::read_link(path)?, inside(&root, path)?)?;
            }
            Ok(_) => binds.push(same(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    write_etc(&root)?;
    for path in HOST_FILES.map(Path::new) {
        if path.exists() {
            binds.push(same(path));
        }
    }
    for target in ["/proc", "/dev", "/tmp"] {
        make_folder(&inside(&root, Path::new(target))?)?;
    }
    binds.extend(spec.mounts.iter().cloned());
    for bind in &binds {
        make_mount_point(&root, bind)?;
    }
    let config = config(spec, &binds, network_namespace, tmp_bytes);
    fs::write(folder.join("config.json"), config.to_string())
}

fn same(path: &Path) -> Mount {
    Mount {
        source: path.to_owned(),
        target: path.to_owned(),
    }
}

fn write_etc(root: &Path) -> io::Result<()> {
    let etc = root.join("etc");
    make_folder(&etc)?;
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0::/nonexistent:/usr/sbin/nologin\nagent:x:{USER}:{USER}::/tmp:/bin/sh\n"
            ),
        ),
        ("group", format!("root:x:0:\nagent:x:{USER}:\n")),
        ("hosts", "127.0.0.1 localhost\n".to_owned()),
        ("hostname", "sandbox\n".to_owned()),
        (
            "resolv.conf",
            format!("nameserver {GATEWAY_ADDRESS}\noptions timeout:5 attempts:2\n"),
        ),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
        ),
    ];
    for (name, content) in files {
        fs::write(etc.join(name), content)?;
    }
    Ok(())
}

/// The place of a sandbox's path below the root folder on the host. The root is
/// ours and has links only at its top, so nothing leads out of it.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    path.strip_prefix("/")
        .map(|relative| root.join(relative))
        .map_err(io::Error::other)
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
}

fn make_mount_point(root: &Path, bind: &Mount) -> io::Result<()> {
    let found = fs::metadata(&bind.source).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", bind.source.display()))
    })?;
    let target = inside(root, &bind.target)?;
    if found.is_dir() {
        return make_folder(&target);
    }
    if let Some(parent) = target.parent() {
        make_folder(parent)?;
    }
    fs::File::create(target).map(drop)
}

fn config(spec: &SandboxSpec, binds: &[Mount], network_namespace: &Path, tmp_bytes: u64) -> Value {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc",
               "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "noexec", "mode=755", "size=65536"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "nodev", "mode=1777", format!("size={tmp_bytes}")]}),
    ];
    mounts.extend(binds.iter().map(|bind| {
        json!({"destination": bind.target, "type": "bind", "source": bind.source,
               "options": ["rbind", "ro", "nosuid", "nodev"]})
    }));
    let limit = |kind: &str, most: u64| json!({"type": kind, "soft": most, "hard": most});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": USER, "gid": USER, "umask": 0o022},
            "args": spec.argv,
            "env": environment(spec),
            "cwd": spec.cwd,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": [],
            },
            "rlimits": [
                // The program has one user and cannot change it, so gVisor's
                // count per user is the sandbox's count.
                limit("RLIMIT_NPROC", u64::from(spec.limits.processes)),
                limit("RLIMIT_NOFILE", 1024),
                limit("RLIMIT_CORE", 0),
            ],
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "network", "path": network_namespace},
            ],
        },
    })
}

fn environment(spec: &SandboxSpec) -> Vec<String> {
    let defaults = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp")];
    let missing = defaults
        .iter()
        .filter(|(name, _)| !spec.env.contains_key(*name))
        .map(|(name, value)| format!("{name}={value}"));
    let given = spec
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    missing.chain(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use creto_runtime::Limits;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            id: "sbx_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e"
                .parse()
                .expect("an id"),
            org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e"
                .parse()
                .expect("an id"),
            agent: "release-bot".parse().expect("a name"),
            argv: vec!["true".into()],
            env: [("A".to_owned(), "b".to_owned())].into(),
            cwd: "/".into(),
            mounts: vec![Mount {
                source: "/usr/share".into(),
                target: "/data/share".into(),
            }],
            limits: Limits::default(),
        }
    }

    #[test]
    fn every_bind_is_read_only_and_the_environment_is_what_was_given() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &spec(), Path::new("/run/netns/x"), 1024).expect("a bundle");
        let text = fs::read_to_string(folder.path().join("config.json")).expect("a file");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        let binds: Vec<_> = config["mounts"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|mount| mount["type"] == "bind")
            .collect();
        assert!(
            binds
                .iter()
                .any(|mount| mount["destination"] == "/data/share")
        );
        for bind in binds {
            let options = bind["options"].as_array().expect("a list");
            for option in ["ro", "nosuid", "nodev"] {
                assert!(options.iter().any(|known| known == option), "{bind}");
            }
        }
        assert_eq!(
            config["process"]["env"],
            json!(["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "A=b"])
        );
        assert_eq!(config["root"]["readonly"], true);
        assert!(folder.path().join("rootfs/data/share").is_dir());
    }

    #[test]
    fn a_missing_source_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spec = spec();
        spec.mounts[0].source = "/nowhere/at/all".into();
        let error =
            write(folder.path(), &spec, Path::new("/run/netns/x"), 1024).expect_err("no source");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
