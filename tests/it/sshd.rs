//! A real sshd on loopback, with its own keys, configuration and port.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Finished, Need, Sandbox, require};

/// A running sshd that lets this user in, and what a push to it needs.
pub struct Sshd {
    pub sandbox: Sandbox,
    pub port: u16,
    server: Child,
}

/// What these tests need of a machine.
pub fn wanted(test: &str) -> bool {
    // The daemon lies outside of ordinary users' PATH.
    let needs = [
        Need::File("/usr/sbin/sshd", "openssh-server"),
        Need::Program("ssh", "openssh-client"),
        Need::Login,
    ];
    require(test, &needs)
}

#[expect(clippy::disallowed_methods, reason = "tests start the servers under test")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Sshd {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more lines in its configuration.
    pub fn start_with(extra: &str) -> Self {
        let sandbox = Sandbox::new();
        for key in ["host", "user"] {
            let made = sandbox.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
            made.success();
        }
        fs::copy(sandbox.path("user.pub"), sandbox.path("authorized")).unwrap();
        let port = free_port();
        let dir = sandbox.path("").display().to_string();
        let dir = dir.trim_end_matches('/');
        sandbox.write(
            "sshd_config",
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile none\n\
                 AuthorizedKeysFile {dir}/authorized\nStrictModes no\nUsePAM no\nMaxStartups 100\n{extra}"
            ),
        );
        sandbox.write(
            "ssh_config",
            format!(
                "Host *\n IdentityFile {dir}/user\n IdentitiesOnly yes\n UserKnownHostsFile {dir}/known\n \
                 GlobalKnownHostsFile /dev/null\nHost node*\n HostName 127.0.0.1\n Port {port}\n"
            ),
        );
        let server = Self::serve(&sandbox, port);
        let sshd = Sshd { sandbox, port, server };
        sshd.pin();
        sshd
    }

    fn serve(sandbox: &Sandbox, port: u16) -> Child {
        // sshd wants its privilege separation folder where it runs as root.
        let _ = fs::create_dir_all("/run/sshd");
        let mut server = command("/usr/sbin/sshd");
        server.args(["-D", "-e", "-f"]).arg(sandbox.path("sshd_config"));
        server.stdin(Stdio::null()).stdout(Stdio::null());
        server.stderr(fs::File::create(sandbox.path("sshd.log")).unwrap());
        let server = server.spawn().unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Makes the present host key the known one.
    pub fn pin(&self) {
        self.pin_at(self.port);
    }

    /// The same, for who reaches it by another port.
    pub fn pin_at(&self, port: u16) {
        let key = fs::read_to_string(self.sandbox.path("host.pub")).unwrap();
        self.sandbox.write("known", format!("[127.0.0.1]:{port} {key}"));
    }

    /// The processes of its sessions and itself, by their parents.
    pub fn sessions(&self) -> Vec<i32> {
        let mut family = vec![self.server.id() as i32];
        let parent = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()
        };
        let all: Vec<i32> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let mut grown = true;
        while grown {
            let is_child = |pid: &&i32| {
                !family.contains(pid) && parent(**pid).is_some_and(|p| family.contains(&p))
            };
            let more: Vec<i32> = all.iter().filter(is_child).copied().collect();
            grown = !more.is_empty();
            family.extend(more);
        }
        family
    }

    /// Where the node's store is.
    pub fn store(&self) -> PathBuf {
        self.sandbox.path("store")
    }

    /// `vzpush` with all that leads it to this node and keeps it in the sandbox.
    pub fn vzpush(&self, args: &[&str]) -> Command {
        self.vzpush_to(&self.store(), args)
    }

    /// The same with another store.
    pub fn vzpush_to(&self, store: &Path, args: &[&str]) -> Command {
        self.tool("vzpush", store, args)
    }

    /// `vzmaster`, likewise.
    pub fn vzmaster(&self, args: &[&str]) -> Command {
        self.tool("vzmaster", &self.store(), args)
    }

    fn tool(&self, program: &str, store: &Path, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(program);
        command.arg("-F").arg(self.sandbox.path("ssh_config"));
        // No connection outlives its push, so that none outlives its test.
        command.args(["-o", "ControlPersist=no", "--store"]).arg(store).args(args);
        command.env("XDG_CACHE_HOME", self.sandbox.path("cache")).env_remove("SSH_AUTH_SOCK");
        command.env("XDG_RUNTIME_DIR", "/nonexistent");
        command
    }

    /// Runs it to its end.
    pub fn push(&self, args: &[&str]) -> Finished {
        Finished::of(&mut self.vzpush(args))
    }

    /// Writes a bundle; files of `seed` are noise that does not compress.
    pub fn bundle(&self, name: &str, seed: u64, size: usize) -> PathBuf {
        let mut state = seed | 1;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..size).map(step).collect();
        self.sandbox.write(&format!("{name}/rootfs/bin/noise"), noise);
        self.sandbox.write(&format!("{name}/rootfs/etc/conf"), b"listen 80\n".repeat(500));
        self.sandbox.write(&format!("{name}/rootfs/etc/seed"), seed.to_string());
        self.sandbox.write(&format!("{name}/config.json"), r#"{"root":{"path":"rootfs"}}"#);
        self.sandbox.path(name)
    }

    /// Which revision is current, if any.
    pub fn current(&self, name: &str) -> Option<PathBuf> {
        fs::canonicalize(self.store().join(name).join("current")).ok()
    }

    /// Asserts that every revision of the node is whole, and the bundle current.
    #[track_caller]
    pub fn assert_current(&self, bundle: &str, name: &str) {
        self.push(&["verify", "node"]).success();
        let current = self.current(name).expect("a current revision");
        for file in ["bin/noise", "etc/conf", "etc/seed"] {
            let ours = fs::read(self.sandbox.path(bundle).join("rootfs").join(file)).unwrap();
            assert!(ours == fs::read(current.join("rootfs").join(file)).unwrap(), "{file}");
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
