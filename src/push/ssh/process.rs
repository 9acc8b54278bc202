//! A running ssh: its streams, the end of what it says, and a clock that kills it.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

/// So much of standard error is kept, from its end.
const KEPT: usize = 8 << 10;

/// A child, and who watches it.
pub(super) struct Running {
    child: Arc<Mutex<Child>>,
    /// Its standard input and output.
    streams: Arc<[UnixStream; 2]>,
    deadline: Arc<Mutex<Option<Instant>>>,
    late: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    said: Receiver<Vec<u8>>,
}

/// Starts it; returns it with its standard input and output. Those are sockets: a
/// shared connection goes on holding them when this ssh is killed, and what waits at
/// a pipe would wait with it.
pub(super) fn start(command: &mut Command) -> anyhow::Result<(Running, UnixStream, UnixStream)> {
    let (stdin, its_in) = UnixStream::pair().context("cannot make a socket for ssh")?;
    let (stdout, its_out) = UnixStream::pair().context("cannot make a socket for ssh")?;
    command.stdin(OwnedFd::from(its_in)).stdout(OwnedFd::from(its_out)).stderr(Stdio::piped());
    let child = command.spawn().context("cannot run ssh");
    // The command has ends of its own, which would keep the sockets open.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = child?;
    let stderr = child.stderr.take();
    let streams = [stdin.try_clone(), stdout.try_clone()];
    let [Ok(its_in), Ok(its_out)] = streams else {
        let _ = child.kill();
        let _ = child.wait();
        anyhow::bail!("cannot keep the sockets of ssh");
    };
    let (said_in, said) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 1024];
        let mut stderr = stderr;
        while let Some(Ok(n @ 1..)) = stderr.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            kept.extend_from_slice(buffer.get(..n).unwrap_or_default());
            let over = kept.len().saturating_sub(KEPT);
            kept.drain(..over);
        }
        // Nobody asks where all went well.
        let _ = said_in.send(kept);
    });
    let running = Running {
        child: Arc::new(Mutex::new(child)),
        streams: Arc::new([its_in, its_out]),
        deadline: Arc::default(),
        late: Arc::default(),
        over: Arc::default(),
        said,
    };
    running.watch();
    Ok((running, stdin, stdout))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    fn watch(&self) {
        let (deadline, over) = (Arc::clone(&self.deadline), Arc::clone(&self.over));
        let (late, kill) = (Arc::clone(&self.late), self.killer());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if lock(&deadline).is_some_and(|at| Instant::now() > at) {
                    late.store(true, Ordering::Relaxed);
                    kill();
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
    }

    /// Kills ssh if this is not called again, or [`Running::expect_no_more`], in time.
    pub(super) fn expect_within(&self, time: Duration) {
        *lock(&self.deadline) = Some(Instant::now() + time);
    }

    /// From now on, others watch.
    pub(super) fn expect_no_more(&self) {
        *lock(&self.deadline) = None;
    }

    /// Whether the clock killed it.
    pub(super) fn was_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Something that kills it, and ends all reads and writes that wait for it.
    pub(super) fn killer(&self) -> impl Fn() + Send + 'static {
        let (child, streams) = (Arc::clone(&self.child), Arc::clone(&self.streams));
        move || {
            // It may have ended by itself.
            let _ = lock(&child).kill();
            for stream in streams.iter() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Waits for its end, a moment only; returns its status and what it said.
    pub(super) fn end(self) -> (Option<i32>, String) {
        self.over.store(true, Ordering::Relaxed);
        let [stdin, _] = &*self.streams;
        let _ = stdin.shutdown(Shutdown::Write);
        let given_up = Instant::now() + Duration::from_secs(3);
        let status = loop {
            match lock(&self.child).try_wait() {
                Ok(Some(status)) => break status.code(),
                Ok(None) if Instant::now() < given_up => {}
                _ => break None,
            }
            thread::sleep(Duration::from_millis(5));
        };
        if status.is_none() {
            let mut child = lock(&self.child);
            let _ = child.kill();
            let _ = child.wait();
        }
        // A connection that outlives it may hold its standard error open.
        let said = self.said.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
        (status, String::from_utf8_lossy(&said).into_owned())
    }
}
