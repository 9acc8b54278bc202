//! A link that a test can hold, silence and cut at any byte: a TCP relay before sshd.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

pub struct Gate {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes that went to the node since [`Gate::hold_after`].
    passed: u64,
    /// No byte after this one goes to the node.
    hold: Option<u64>,
    /// Nothing goes in either direction.
    down: bool,
    open: Vec<TcpStream>,
}

impl Gate {
    /// Relays to a port of this machine.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let accepted = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let both = [&client, &server].map(|stream| stream.try_clone().unwrap());
                accepted.lock().open.extend(both);
                let pair = [(&client, &server, true), (&server, &client, false)];
                for (from, to, counted) in pair {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&accepted);
                    thread::spawn(move || shared.relay(from, to, counted));
                }
            }
        });
        Gate { port: own, shared }
    }

    /// Lets so many bytes to the node from now on, and no more.
    pub fn hold_after(&self, bytes: u64) {
        let mut state = self.shared.lock();
        (state.passed, state.hold, state.down) = (0, Some(bytes), false);
    }

    /// Waits until no more is let through, or `child` has ended.
    pub fn wait(&self, child: &mut Child) {
        let started = Instant::now();
        while !self.is_held() && child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(120), "nothing moves");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the last byte that may pass has passed.
    fn is_held(&self) -> bool {
        let state = self.shared.lock();
        state.hold.is_some_and(|hold| state.passed >= hold)
    }

    /// The link is down: nothing moves, and nobody is told.
    pub fn silence(&self) {
        self.shared.lock().down = true;
    }

    /// All goes through again; what was held back too.
    pub fn release(&self) {
        let mut state = self.shared.lock();
        (state.hold, state.down) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Ends all connections, as a node does that is gone.
    pub fn cut(&self) {
        for stream in self.shared.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.release();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn relay(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let mut buffer = [0; 16 << 10];
        'stream: while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let mut state = self.lock();
                let may = loop {
                    let left =
                        state.hold.map_or(u64::MAX, |hold| hold.saturating_sub(state.passed));
                    let left = if counted { left } else { u64::MAX };
                    if !state.down && left > 0 {
                        break left;
                    }
                    state = self.changed.wait(state).unwrap();
                };
                let now = rest.len().min(usize::try_from(may).unwrap_or(usize::MAX));
                state.passed += if counted { now as u64 } else { 0 };
                drop(state);
                if to.write_all(&rest[..now]).is_err() {
                    break 'stream;
                }
                rest = &rest[now..];
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
