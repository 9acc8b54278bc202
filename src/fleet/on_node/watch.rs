//! Whether a revision that was started does its work: judged by systemd's states,
//! by restarts, and by probes. A unit under `Restart=always` never reads `failed`.

use std::error::Error;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::probe::Prober;
use super::sockets::{Socket, Wanted};
use super::systemd::UnitState;
use super::{Pods, Site};
use crate::fleet::pod::{Probe, Probing, Protocol, Restart};
use crate::fleet::revision::{Placed, Record};

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// So long a container must run without being started again.
    pub settle: Duration,
    /// Between looks.
    pub tick: Duration,
    /// For all that has no time of its own.
    pub slack: Duration,
    /// So long a revision that does its work is kept without being confirmed.
    pub confirm: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let settle = Duration::from_secs(5);
        let [slack, confirm] = [30, 60].map(Duration::from_secs);
        Patience { settle, tick: Duration::from_millis(200), slack, confirm }
    }
}

/// So long nothing is said of what is waited for.
const TOLD: Duration = Duration::from_secs(10);

/// More restarts than this are a crash loop; one or two are a program that waits for
/// its neighbour by ending.
const RESTARTS: u64 = 2;

struct Watched<'a> {
    placed: &'a Placed,
    /// Startup first, then the others together.
    probes: Vec<Asked<'a>>,
    /// Of before it was to be started: it ran already.
    before: u64,
    restarts: u64,
    steady: Instant,
    finished: bool,
    /// How it ended last, as systemd calls it; nothing where it did not.
    ended: String,
}

struct Asked<'a> {
    what: &'static str,
    probe: &'a Probe,
    due: Instant,
    good: u32,
    bad: u32,
    said: String,
    /// The port of the pod's own address that refused the last time.
    refused: Option<u16>,
}

impl Asked<'_> {
    fn done(&self) -> bool {
        self.good >= self.probe.successes
    }
}

/// Waits until every container of `record` runs, stays, and answers its probes; `begun`
/// is when it was to be started, by the monotonic clock. What it waits for is told now and then.
///
/// # Errors
/// Why one does not, as a sentence; or that systemd does not answer.
pub(super) fn judge(
    site: &Site<'_>,
    pods: &Pods,
    record: &Record,
    begun: Duration,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<Result<(), String>> {
    let (systemd, prober, patience) = (site.systemd, site.prober, &site.patience);
    let address = pods.address(record).unwrap_or_else(|| "127.0.0.1".to_owned());
    let started = Instant::now();
    let mut told = started;
    let units = record.units();
    let net = record.network_unit();
    let watched = |(placed, state): (_, &UnitState)| {
        let ran = state.active == "active" && u128::from(state.since) < begun.as_micros();
        let before = if ran && state.since > 0 { state.restarts } else { 0 };
        Watched::new(placed, before, before, started)
    };
    let states = systemd.show(&units)?;
    let mut all: Vec<Watched<'_>> = record.containers.iter().zip(&states).map(watched).collect();
    let deadline = started + patience.slack + patience.settle + allowance(record);
    let complaint = |late: &Watched<'_>| late.complaint() + &by_itself(site, record, late);
    loop {
        // Without it no container starts, which for one that may end looks like its end.
        let ended = |state: &&UnitState| matches!(state.active.as_str(), "failed" | "inactive");
        if let Some(state) = systemd.show(&net)?.iter().find(ended) {
            return Ok(Err(format!("its network is {}: {}", state.active, state.result)));
        }
        let states = systemd.show(&units)?;
        for (watched, state) in all.iter_mut().zip(&states) {
            if let Err(why) = watched.look(state, prober, &address) {
                return Ok(Err(why + &by_itself(site, record, watched)));
            }
        }
        let ready = |watched: &Watched<'_>| {
            let steady = watched.steady.elapsed() >= patience.settle;
            watched.finished || steady && watched.probes.iter().all(Asked::done)
        };
        if all.iter().all(ready) {
            return Ok(Ok(()));
        }
        if Instant::now() > deadline {
            let late = all.iter().find(|watched| !ready(watched));
            return Ok(Err(late.map(complaint).unwrap_or_default()));
        }
        if told.elapsed() >= TOLD {
            told = Instant::now();
            let late = all.iter().find(|watched| !ready(watched)).map(complaint);
            late.into_iter().for_each(|late| say(format!("waits: {late}")));
        }
        thread::sleep(patience.tick);
    }
}

/// What is said where a port refuses at the pod's own address, and somebody listens on it at
/// 127.0.0.1 or ::1.
fn by_itself(site: &Site<'_>, record: &Record, watched: &Watched<'_>) -> String {
    let port = watched.undone().and_then(|asked| asked.refused);
    let (Some(port), true) = (port, record.network.is_some()) else { return String::new() };
    let states = site.show(record).unwrap_or_default();
    let pid = states.iter().map(|state| state.pid).find(|pid| *pid != 0);
    let sockets = pid.map(|pid| site.network.sockets(pid, Wanted::Listening)).unwrap_or_default();
    let own = |socket: &&Socket| {
        (socket.protocol, socket.port) == (Protocol::Tcp, port)
            && socket.address.to_canonical().is_loopback()
    };
    sockets.iter().find(own).map_or_else(String::new, |socket| {
        format!(
            "; it listens on port {port} at {}, where only the pod itself reaches it: 0.0.0.0 is \
             all addresses",
            socket.address
        )
    })
}

/// The port that a probe of the pod's own address was refused at, where that is why it failed.
fn refused(probe: &Probe, error: &anyhow::Error) -> Option<u16> {
    let is_refused = |cause: &(dyn Error + 'static)| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
    };
    match &probe.probing {
        Probing::Tcp { host, port } | Probing::Http { host, port, .. } if host.is_empty() => {
            error.chain().any(is_refused).then_some(*port)
        }
        _ => None,
    }
}

/// What the probes may take by their own times.
fn allowance(record: &Record) -> Duration {
    let of = |probe: &Probe| {
        let tries = probe.failures.max(probe.successes);
        probe.initial_delay + tries.saturating_mul(probe.period.max(probe.timeout))
    };
    let of_container = |placed: &Placed| {
        let probes = [&placed.startup, &placed.readiness, &placed.liveness];
        probes.into_iter().flatten().map(of).sum::<u32>()
    };
    let longest = record.containers.iter().map(of_container).max();
    Duration::from_secs(longest.unwrap_or(0).into())
}

impl<'a> Watched<'a> {
    fn new(placed: &'a Placed, before: u64, restarts: u64, now: Instant) -> Self {
        let kinds = [
            ("startup", &placed.startup),
            ("readiness", &placed.readiness),
            ("liveness", &placed.liveness),
        ];
        let asked = |(what, probe): (&'static str, &'a Option<Probe>)| {
            let probe = probe.as_ref()?;
            let due = now + Duration::from_secs(probe.initial_delay.into());
            Some(Asked { what, probe, due, good: 0, bad: 0, said: String::new(), refused: None })
        };
        let probes = kinds.into_iter().filter_map(asked).collect();
        let (finished, ended) = (false, String::new());
        Watched { placed, probes, before, restarts, steady: now, finished, ended }
    }

    fn look(
        &mut self,
        state: &UnitState,
        prober: &dyn Prober,
        address: &str,
    ) -> Result<(), String> {
        let unit = &self.placed.unit;
        if !matches!(state.result.as_str(), "" | "success") {
            self.ended.clone_from(&state.result);
        }
        if state.restarts > self.restarts {
            let ended = std::mem::take(&mut self.ended);
            *self = Watched::new(self.placed, self.before, state.restarts, Instant::now());
            self.ended = ended;
        }
        let times = state.restarts.saturating_sub(self.before);
        if times > RESTARTS {
            return Err(format!("{unit} was started again {times} times{}", self.why()));
        }
        match state.active.as_str() {
            "active" => {}
            "failed" | "inactive" => {
                let ends = self.placed.restart != Restart::Always && state.result == "success";
                self.finished = ends && state.active == "inactive";
                return match self.finished {
                    true => Ok(()),
                    false => Err(format!("{unit} is {}: {}", state.active, state.result)),
                };
            }
            // Between two starts, or stopping.
            _ => {
                self.steady = Instant::now();
                return Ok(());
            }
        }
        self.ask(prober, address)
    }

    fn ask(&mut self, prober: &dyn Prober, address: &str) -> Result<(), String> {
        let starting =
            self.probes.first().is_some_and(|asked| asked.what == "startup" && !asked.done());
        let count = if starting { 1 } else { self.probes.len() };
        for asked in self.probes.iter_mut().take(count) {
            if asked.done() || Instant::now() < asked.due {
                continue;
            }
            match prober.probe(self.placed, address, asked.probe) {
                Ok(()) => {
                    asked.good += 1;
                    asked.bad = 0;
                }
                Err(error) => {
                    asked.good = 0;
                    asked.bad += 1;
                    asked.said = format!("{error:#}");
                    asked.refused = refused(asked.probe, &error);
                    // Kubernetes kills the container then; readiness only keeps
                    // traffic away.
                    if asked.what != "readiness" && asked.bad >= asked.probe.failures {
                        return Err(self.complaint());
                    }
                }
            }
            asked.due = Instant::now() + Duration::from_secs(asked.probe.period.into());
        }
        Ok(())
    }

    /// How it ended, where that is known.
    fn why(&self) -> String {
        match self.ended.as_str() {
            "" => String::new(),
            // Of its own control group, or of the node.
            "oom-kill" => ": oom-kill, it took more memory than there is for it".to_owned(),
            other => format!(": {other}"),
        }
    }

    /// The first probe that did not succeed yet.
    fn undone(&self) -> Option<&Asked<'a>> {
        self.probes.iter().find(|asked| !asked.done())
    }

    fn complaint(&self) -> String {
        let name = &self.placed.name;
        match self.undone() {
            Some(asked) if asked.bad > 0 => {
                format!("the {} probe of container {name} fails: {}", asked.what, asked.said)
            }
            Some(asked) => {
                format!("the {} probe of container {name} does not succeed in time", asked.what)
            }
            None => format!("container {name} does not stay up"),
        }
    }
}
