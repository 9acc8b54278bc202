//! One end of a connection: frames in both directions, heartbeats, and a limit on
//! how long the other end may be silent.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Frame, FrameError, HEADER, Type};

/// How long the other end may be silent, unless another time is asked for.
pub const SILENCE: Duration = Duration::from_secs(30);
/// Frames that are read ahead.
const AHEAD: usize = 4;

/// Why the other end could not be heard or told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nothing was heard for this long.
    #[error("nothing was heard from the other end for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// No frame could be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame could not be sent.
    #[error("the connection broke while sending")]
    Send(#[source] std::io::Error),
    /// A message could not be understood.
    #[error("a message of the other end makes no sense")]
    Message(#[source] serde_json::Error),
    /// Another frame came than could come.
    #[error("the other end sent a {0:?} frame where none could come")]
    Unexpected(Type),
}

/// What is counted while an end is up.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes sent, framing included.
    pub sent: AtomicU64,
    /// Bytes received, framing included.
    pub received: AtomicU64,
    /// Bytes that this end tells the other that it has verified.
    pub verified: AtomicU64,
    /// The same of the other end, as last told.
    pub acknowledged: AtomicU64,
}

/// One end.
pub struct Link {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    incoming: Receiver<Result<Frame, FrameError>>,
    state: Arc<State>,
    silence: Duration,
    limiter: Option<Limiter>,
    /// What went by so far.
    pub counters: Arc<Counters>,
}

struct State {
    started: Instant,
    /// Milliseconds after `started` when something was heard last.
    heard: AtomicU64,
    /// Whether the reader waits for this end instead of the other.
    full: AtomicBool,
    silent: AtomicBool,
    ended: AtomicBool,
}

impl Link {
    /// Starts to read frames from `input`, and to send heartbeats to `output`.
    ///
    /// When nothing is heard for `silence`, `hang_up` is called: it has to make
    /// reads and writes that wait come to an end.
    ///
    /// # Errors
    /// When the greeting cannot be sent.
    pub fn start(
        input: impl Read + Send + 'static,
        mut output: impl Write + Send + 'static,
        silence: Duration,
        hang_up: impl FnOnce() + Send + 'static,
    ) -> Result<Link, LinkError> {
        frame::write_magic(&mut output).and_then(|()| output.flush()).map_err(LinkError::Send)?;
        let sent = frame::MAGIC.len() as u64;
        Ok(Self::resume(input, output, sent, silence, hang_up))
    }

    /// As [`Link::start`], where the greeting is there already, by `sent` bytes in all.
    pub fn resume(
        mut input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
        sent: u64,
        silence: Duration,
        hang_up: impl FnOnce() + Send + 'static,
    ) -> Link {
        let output: Box<dyn Write + Send> = Box::new(output);
        let counters = Arc::new(Counters::default());
        counters.sent.store(sent, Ordering::Relaxed);
        let state = Arc::new(State {
            started: Instant::now(),
            heard: AtomicU64::new(0),
            full: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let (frames, incoming) = sync_channel(AHEAD);
        let out = Arc::new(Mutex::new(output));
        {
            let (state, counters) = (Arc::clone(&state), Arc::clone(&counters));
            thread::spawn(move || pump(&mut input, &frames, &state, &counters));
        }
        // Two threads: the one that sends may wait for as long as the other end reads nothing.
        {
            let state = Arc::clone(&state);
            thread::spawn(move || watch(&state, silence, hang_up));
        }
        {
            let (state, counters, out) =
                (Arc::clone(&state), Arc::clone(&counters), Arc::clone(&out));
            thread::spawn(move || beat(&state, &counters, &out, silence));
        }
        Link { out, incoming, state, silence, limiter: None, counters }
    }

    /// Sends no more than `rate` bytes a second from now on.
    pub fn limit(&mut self, rate: u64) {
        self.limiter = Some(Limiter { rate, due: Instant::now() });
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When it cannot be sent; [`LinkError::Silent`] where that is why.
    pub fn send(&mut self, kind: Type, payload: &[u8]) -> Result<(), LinkError> {
        if let Some(limiter) = &mut self.limiter {
            limiter.pass(payload.len() + HEADER);
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = frame::write(&mut *out, kind, payload);
        drop(out);
        sent.map_err(|e| self.explain(LinkError::Send(e)))?;
        let bytes = (HEADER + payload.len()) as u64;
        self.counters.sent.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn say(&mut self, message: &impl Serialize) -> Result<(), LinkError> {
        let text = serde_json::to_vec(message).map_err(LinkError::Message)?;
        self.send(Type::Message, &text)
    }

    /// Returns the next frame that is no heartbeat.
    ///
    /// # Errors
    /// When none comes.
    pub fn receive(&mut self) -> Result<Frame, LinkError> {
        let closed = || FrameError::Broken(std::io::ErrorKind::UnexpectedEof.into());
        let frame = self.incoming.recv().unwrap_or_else(|_| Err(closed()));
        frame.map_err(|e| self.explain(e.into()))
    }

    /// Returns the next frame, which must be a message.
    ///
    /// # Errors
    /// When none comes, or another one.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T, LinkError> {
        let frame = self.receive()?;
        match frame.kind {
            Type::Message => parse(&frame.payload),
            other => Err(LinkError::Unexpected(other)),
        }
    }

    /// Whether a frame is there to be received at once.
    pub fn pending(&mut self) -> Option<Result<Frame, LinkError>> {
        let frame = self.incoming.try_recv().ok()?;
        Some(frame.map_err(|e| self.explain(e.into())))
    }

    /// What the other end said last, after sending to it failed: it may have told
    /// why it left.
    pub fn last_message(&mut self) -> Option<Frame> {
        // What has broken ends the reader as well, so this is a bound and no delay.
        let given_up = Instant::now() + Duration::from_secs(3);
        loop {
            let left = given_up.saturating_duration_since(Instant::now());
            let frame = self.incoming.recv_timeout(left).ok()?.ok()?;
            if frame.kind == Type::Message {
                return Some(frame);
            }
        }
    }

    /// Whether the other end was given up.
    pub fn was_silent(&self) -> bool {
        self.state.silent.load(Ordering::Relaxed)
    }

    fn explain(&self, error: LinkError) -> LinkError {
        match self.was_silent() {
            true => LinkError::Silent(self.silence),
            false => error,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
    }
}

/// Understands the payload of a message frame.
///
/// # Errors
/// [`LinkError::Message`].
pub fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, LinkError> {
    serde_json::from_slice(payload).map_err(LinkError::Message)
}

/// Reads frames until there are no more, and passes them on.
fn pump(
    input: &mut impl Read,
    frames: &SyncSender<Result<Frame, FrameError>>,
    state: &State,
    counters: &Counters,
) {
    let mut input = Heard { input, state, counters };
    let mut greeted = frame::read_magic(&mut input).map(drop);
    loop {
        let frame = match greeted {
            Ok(()) => frame::read(&mut input),
            Err(error) => Err(error),
        };
        greeted = Ok(());
        let last = match &frame {
            Ok(Frame { kind: Type::Heartbeat, payload }) => {
                if let Some(bytes) = payload.first_chunk() {
                    let done = u64::from_le_bytes(*bytes);
                    counters.acknowledged.store(done, Ordering::Relaxed);
                }
                continue;
            }
            Ok(_) => false,
            Err(_) => true,
        };
        state.full.store(true, Ordering::Relaxed);
        let gone = frames.send(frame).is_err();
        state.hear();
        state.full.store(false, Ordering::Relaxed);
        if gone || last {
            return;
        }
    }
}

impl State {
    fn hear(&self) {
        let now = self.started.elapsed().as_millis();
        self.heard.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn unheard(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(heard)
    }
}

/// Notes when something was read.
struct Heard<'a, R> {
    input: &'a mut R,
    state: &'a State,
    counters: &'a Counters,
}

impl<R: Read> Read for Heard<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buf)?;
        self.state.hear();
        self.counters.received.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// How often the threads of a link look around.
fn tick(silence: Duration) -> Duration {
    (silence / 10).clamp(Duration::from_millis(5), Duration::from_millis(250))
}

/// Hangs up when nothing was heard for too long.
fn watch(state: &State, silence: Duration, hang_up: impl FnOnce()) {
    while !state.ended.load(Ordering::Relaxed) {
        thread::sleep(tick(silence));
        if state.unheard() > silence && !state.full.load(Ordering::Relaxed) {
            state.silent.store(true, Ordering::Relaxed);
            hang_up();
            return;
        }
    }
}

/// Sends heartbeats.
fn beat(state: &State, counters: &Counters, out: &Mutex<Box<dyn Write + Send>>, silence: Duration) {
    let mut last = Instant::now();
    while !state.ended.load(Ordering::Relaxed) {
        thread::sleep(tick(silence));
        let told = counters.verified.load(Ordering::Relaxed);
        let due = if told > 0 { Duration::from_secs(1) } else { silence };
        if last.elapsed() < due.min(silence / 3) {
            continue;
        }
        // Where the lock is held, a frame is on its way, which serves as well.
        if let Ok(mut out) = out.try_lock()
            && !state.ended.load(Ordering::Relaxed)
        {
            last = Instant::now();
            let told = if told > 0 { told.to_le_bytes().to_vec() } else { Vec::new() };
            if frame::write(&mut *out, Type::Heartbeat, &told).is_err() {
                return;
            }
            let bytes = (HEADER + told.len()) as u64;
            counters.sent.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Spreads bytes over time.
struct Limiter {
    rate: u64,
    /// When all that passed so far should have passed.
    due: Instant,
}

/// How much of the time in which nothing was sent may be made up for: that which
/// sending and waking up take, and not that in which a delta is made.
const CREDIT: Duration = Duration::from_millis(100);

impl Limiter {
    fn pass(&mut self, bytes: usize) {
        thread::sleep(self.wait(bytes, Instant::now()));
    }

    /// How long so many bytes have to wait at `now`.
    fn wait(&mut self, bytes: usize, now: Instant) -> Duration {
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate.max(1) as f64);
        self.due = self.due.max(earliest) + takes;
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    fn link(stream: &UnixStream, silence: u64) -> Link {
        let (input, output) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        let ours = stream.try_clone().unwrap();
        let silence = Duration::from_millis(silence);
        Link::start(input, output, silence, move || drop(ours.shutdown(Shutdown::Both))).unwrap()
    }

    #[test]
    fn heartbeats_keep_two_quiet_ends_together() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut near, mut far) = (link(&near, 200), link(&far, 200));
        thread::sleep(Duration::from_millis(700));
        near.say(&"still here").unwrap();
        assert_eq!(far.hear::<String>().unwrap(), "still here");
    }

    #[test]
    fn a_silent_other_end_is_given_up() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut near = link(&near, 100);
        assert!(matches!(near.receive(), Err(LinkError::Silent(_))));
    }

    #[test]
    fn an_other_end_that_reads_nothing_is_given_up() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut near = link(&near, 100);
        let error = (0..1000).find_map(|_| near.send(Type::Data, &[0; 100_000]).err());
        assert!(matches!(error, Some(LinkError::Silent(_))));
    }

    /// Takes nothing, and waits for ever, as a pipe does whose reader is stuck.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_heartbeat_that_is_stuck_does_not_stop_the_watch() {
        let (near, _far) = UnixStream::pair().unwrap();
        let (input, ours) = (near.try_clone().unwrap(), near.try_clone().unwrap());
        let hang_up = move || drop(ours.shutdown(Shutdown::Both));
        let mut link = Link::resume(input, Stuck, 0, Duration::from_millis(100), hang_up);
        let (said, heard) = std::sync::mpsc::channel();
        thread::spawn(move || said.send(link.receive().map(drop)));
        let end = heard.recv_timeout(Duration::from_secs(20)).expect("it waits for ever");
        assert!(matches!(end, Err(LinkError::Silent(_))));
    }

    #[test]
    fn a_limit_holds_after_a_pause_too() {
        let start = Instant::now();
        let mut limiter = Limiter { rate: 1000, due: start };
        assert_eq!(limiter.wait(1000, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(limiter.wait(1000, later), Duration::from_millis(900));
        assert_eq!(limiter.wait(1000, later), Duration::from_millis(1900));
    }
}
