//! Asking a container for as long as it runs whether it is alive, and starting it again where
//! it is not. Pure.
//!
//! A timer of systemd asks, made when the container starts and gone with it; between two
//! questions nothing is in memory.

use std::fmt::Write as _;

use super::pod::{Container, Pod, Probe, Probing, Restart};
use super::revision::Placed;
use super::shell::quoted;
use super::unit::{self, PODS};

/// The file of a container, in its revision, that asks.
pub const SCRIPT: &str = "live.sh";
/// Where failures in a row are counted.
const STATE: &str = "/run/vz/live";
/// How the files there end that have how often a container was started again, as systemd had
/// counted it then, too: it forgets its own count in such a start.
pub const RESTARTS: &str = ".restarts";
/// The file with the name of the timer, in the folder of a container's state.
pub const TIMER: &str = "timer";
/// Seconds that shells may take beside a probe's own time, on a machine that is busy.
const SLACK: u32 = 5;

/// The lines of a unit that make the timer, and remove the count; nothing for a container
/// without a liveness probe.
pub fn unit_lines(pod: &Pod, container: &Container, tag: &str) -> String {
    match container.liveness {
        None => String::new(),
        Some(_) => {
            let script = script(&pod.name, tag, &container.name);
            let state = state(&unit::id(&pod.name, &container.name, tag));
            format!(
                "ExecStartPost=-+/bin/bash {script} watch\nExecStopPost=-+/bin/rm -rf {state}\n"
            )
        }
    }
}

fn state(id: &str) -> String {
    format!("{STATE}/{id}")
}

fn script(pod: &str, tag: &str, container: &str) -> String {
    format!("{PODS}/{pod}/tags/{tag}/{container}/{SCRIPT}")
}

/// Returns the script of a container, or nothing where it has no liveness probe.
pub fn render_script(pod: &Pod, tag: &str, placed: &Placed) -> Option<String> {
    let probe = placed.liveness.as_ref()?;
    let Placed { id, unit, .. } = placed;
    let address = match pod.host_network {
        true => "127.0.0.1".to_owned(),
        false => format!("$(cat {PODS}/{}/tags/{tag}.address)", pod.name),
    };
    // As Kubernetes has it: a container that is not to be started again has failed.
    let (said, end) = match placed.restart {
        Restart::Never => ("ended", format!("systemctl kill --signal=SIGKILL {unit}")),
        _ => (
            "started again",
            format!(
                "count=0
  [ ! -e $count_file ] || read -r count _ <$count_file
  echo $((count + $(restarts) + 1)) again >$count_file
  systemctl --no-block try-restart {unit}"
            ),
        ),
    };
    let script = script(&pod.name, tag, &placed.name);
    // Of all clients, Debian has none that is always there.
    let curl = match probe.probing {
        Probing::Http { tls: true, .. } => {
            "  command -v curl >/dev/null || {
    say 'without curl on the node, its liveness over HTTPS is not asked'
    exit 0
  }\n"
        }
        _ => "",
    };
    let (starting, startup) = match &placed.startup {
        None => (String::new(), "true".to_owned()),
        // It is asked as often as the other one.
        Some(startup) => {
            let seconds = u64::from(startup.failures) * u64::from(startup.period);
            let failures = seconds.div_ceil(probe.period.into());
            let first = format!("[ -e $state/up ] || {{ kind=startup limit={failures}; }}\n");
            (first, ask(startup, placed))
        }
    };
    let longest =
        placed.startup.iter().map(|startup| startup.timeout).fold(probe.timeout, u32::max);
    let (delay, period, failures) = (probe.initial_delay.max(1), probe.period, probe.failures);
    Some(format!(
        "\
# bash {SCRIPT} watch|ask|startup|liveness: whether {id} is alive.
# watch makes the timer that asks; startup and liveness ask once.
export LC_ALL=C
state={state} kind=liveness limit={failures}
count_file=$state{RESTARTS}
address={address}
say() {{
  printf 'MESSAGE=%s\\nPRIORITY=4\\nSYSLOG_IDENTIFIER={id}\\nOBJECT_PID=%s\\n' \"$1\" \\
    \"$(systemctl show --property=MainPID --value {unit})\" | logger --journald
}}
restarts() {{
  systemctl show --property=NRestarts --value {unit}
}}
fail() {{
  echo \"$*\"
  exit 1
}}
startup() {{
{startup}
}}
liveness() {{
{liveness}
}}
case $1 in
watch)
  systemctl stop --no-block '{timer}.*.timer' 2>/dev/null
  rm -rf $state
  mkdir -p $state
  if [ -e $count_file ]; then
    read -r count again <$count_file
    # As systemd has it: a start that neither of the two made begins anew.
    case ${{again:-$(restarts)}} in
    0) rm -f $count_file ;;
    *) echo $count >$count_file ;;
    esac
  fi
{curl}  # Each has a name of its own: systemd would look for the file that the one before had.
  systemd-run --quiet --unit={timer}.$$ --description='whether {id} is alive' \\
    --timer-property=PartOf={unit} --timer-property=AccuracySec=1s \\
    --on-active={delay} --on-unit-inactive={period} \\
    --property=StartLimitIntervalSec=0 --property=Slice=system.slice \\
    --property=LogLevelMax=notice /bin/bash {script} ask &&
    echo {timer}.$$.timer >$state/{TIMER}
  ;;
ask)
  systemctl --quiet is-active {unit} || exit 0
{starting}  if why=$(timeout --kill-after=1 {within} bash {script} $kind 2>&1); then
    : >$state/up
    rm -f $state/failed
    exit 0
  fi
  failed=0
  [ ! -e $state/failed ] || read -r failed <$state/failed
  failed=$((failed + 1))
  echo $failed >$state/failed
  [ $failed -ge $limit ] || exit 0
  rm -f $state/failed
  why=${{why##*$'\\n'}}
  say \"the $kind probe failed $failed times, and it is {said}: ${{why:-no answer in time}}\"
  {end}
  ;;
*) $1 ;;
esac
",
        liveness = ask(probe, placed),
        timer = timer(id),
        state = state(id),
        within = longest + SLACK,
    ))
}

/// The beginning of the names of a container's timers and their services. Not `vz-`: they belong to the unit, and are no pod's own.
pub fn timer(id: &str) -> String {
    format!("vz_live.{id}")
}

/// The lines that ask once; what they print says why it is no success.
fn ask(probe: &Probe, placed: &Placed) -> String {
    // No character of a host means anything to a shell.
    fn at(host: &str) -> &str {
        if host.is_empty() { "$address" } else { host }
    }
    match &probe.probing {
        Probing::Tcp { host, port } => format!("  exec 3<>/dev/tcp/{}/{port}", at(host)),
        Probing::Http { host, port, tls: false, path, headers } => {
            let mut lines = vec![format!("GET {path} HTTP/1.1")];
            lines.extend(["Connection: close".to_owned(), "User-Agent: vzmaster".to_owned()]);
            lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
            let mut words: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
            if !headers.iter().any(|(name, _)| is_host(name)) {
                words.push(format!("\"Host: {}:{port}\"", at(host)));
            }
            format!(
                "  exec 3<>/dev/tcp/{}/{port} || exit 1
  # bash's own would send each line by itself.
  env printf '%s\\r\\n' {} '' >&3
  IFS= read -r -t {} -n 12 answer <&3
  # Closing before the server has said all resets the connection; as much as the kubelet reads.
  timeout 1 head -c 10240 <&3 >/dev/null 2>&1
{}",
                at(host),
                words.join(" "),
                probe.timeout,
                judged(*port, "${answer#HTTP/1.? }"),
            )
        }
        Probing::Http { host, port, tls: true, path, headers } => {
            let mut words = String::new();
            for (name, value) in headers {
                let _ = write!(words, " -H {}", quoted(&format!("{name}: {value}")));
            }
            let named = headers.iter().find(|(name, _)| is_host(name));
            // The server is asked for by the name that the request has.
            let name =
                named.map(|(_, value)| value.rsplit_once(':').map_or(&**value, |name| name.0));
            let url = match name.unwrap_or(host) {
                "" => format!("\"https://$address:{port}\"{}", quoted(path)),
                name => quoted(&format!("https://{}:{port}{path}", bracketed(name))),
            };
            format!(
                "  answer=$(curl -sSk -m {} -o /dev/null -w '%{{http_code}}' --connect-to \"::{}:\"{words} {url}) || exit 1
{}",
                probe.timeout,
                bracketed(at(host)),
                judged(*port, "$answer"),
            )
        }
        Probing::Exec { command } => {
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            format!(
                "  exec timeout --kill-after=1 {} sh -c {} sh {}",
                probe.timeout,
                quoted(&format!("{} \"$@\"", unit::exec(placed, false))),
                words.join(" ")
            )
        }
    }
}

/// The lines that take a status from 200 to 399 for a success.
fn judged(port: u16, status: &str) -> String {
    format!(
        "  case {status} in
  [23]??) ;;
  *) fail \"port {port} answers ${{answer:-nothing}}\" ;;
  esac"
    )
}

fn is_host(header: &str) -> bool {
    header.eq_ignore_ascii_case("host")
}

/// A host as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::pod;
    use crate::fleet::preflight::Runtime;

    /// The script of a pod whose container has this.
    fn script(more: &str) -> Option<String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: app\n    image: bundle:x\n    {more}"
        );
        let (pods, violations) = pod::read(&text);
        assert_eq!(violations, []);
        let container = &pods[0].containers[0];
        let placed = Placed {
            name: "app".into(),
            id: "web.app.1a2b".into(),
            unit: "vz-web.app.1a2b.service".into(),
            runtime: Runtime { name: "crun".into(), path: "/usr/bin/crun".into() },
            bundle: "x".into(),
            bundle_id: "x".into(),
            rootfs: "/x".into(),
            restart: pods[0].restart,
            startup: container.startup.clone(),
            readiness: None,
            liveness: container.liveness.clone(),
        };
        assert_eq!(unit_lines(&pods[0], container, "1a2b").is_empty(), placed.liveness.is_none());
        render_script(&pods[0], "1a2b", &placed)
    }

    #[track_caller]
    fn has(script: &str, lines: &[&str]) {
        for line in lines {
            assert!(script.contains(line), "no `{line}` in\n{script}");
        }
    }

    #[test]
    fn only_a_liveness_probe_is_asked_later_on() {
        assert_eq!(script("readinessProbe: {tcpSocket: {port: 80}}\n"), None);
        assert_eq!(script("startupProbe: {tcpSocket: {port: 80}}\n"), None);
    }

    #[test]
    fn a_startup_probe_is_asked_first_for_as_long_as_it_says() {
        let script = script(
            "livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 7, failureThreshold: 2}\n    \
             startupProbe: {exec: {command: [test, -e, it's up]}, periodSeconds: 5, failureThreshold: 4}\n",
        )
        .unwrap();
        has(
            &script,
            &[
                "kind=liveness limit=2\n",
                "address=$(cat /etc/vz/pods/web/tags/1a2b.address)\n",
                "[ -e $state/up ] || { kind=startup limit=3; }\n",
                "liveness() {\n  exec 3<>/dev/tcp/$address/80\n}",
                "exec timeout --kill-after=1 1 sh -c 'exec /usr/bin/crun ",
                " web.app.1a2b \"$@\"' sh test -e 'it'\"'\"'s up'\n",
                "--on-active=1 --on-unit-inactive=7 ",
                "--timer-property=PartOf=vz-web.app.1a2b.service ",
                "systemctl --no-block try-restart vz-web.app.1a2b.service\n",
            ],
        );
    }

    #[test]
    fn what_is_not_to_be_started_again_is_killed() {
        let script = script("livenessProbe: {tcpSocket: {port: 80}}\n  restartPolicy: Never\n");
        has(&script.unwrap(), &["systemctl kill --signal=SIGKILL vz-web.app.1a2b.service\n"]);
    }

    #[test]
    fn words_of_a_request_mean_nothing_to_the_shell() {
        let get = "{port: 80, path: \"/a?b='$(c)\", httpHeaders: [{name: X-A, value: '$HOME `x`'}]";
        has(
            &script(&format!("livenessProbe: {{httpGet: {get}}}}}\n")).unwrap(),
            &[
                "'GET /a?b='\"'\"'$(c) HTTP/1.1' 'Connection: close' ",
                " 'X-A: $HOME `x`' \"Host: $address:80\" '' >&3\n",
                "answer <&3\n",
                "  timeout 1 head -c 10240 <&3 >/dev/null 2>&1\n  case ",
            ],
        );
        has(
            &script(&format!("livenessProbe: {{httpGet: {get}, scheme: HTTPS}}}}\n")).unwrap(),
            &["--connect-to \"::$address:\" -H 'X-A: $HOME `x`' \"https://$address:80\"'/a?b='"],
        );
    }
}
