//! Probes of real servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use vz::fleet::liveness;
use vz::fleet::on_node::{Prober, Probes};
use vz::fleet::pod::{self, Pod, Restart};
use vz::fleet::preflight::Runtime;
use vz::fleet::revision::Placed;

use crate::sandbox::{Finished, Need, Sandbox, require};

/// What a probe comes to, of the pod that is this machine; a deployment and the script that
/// asks later on say the same.
fn probed(text: &str) -> Result<(), String> {
    let (pod, placed) = with_probe(text);
    let probe = placed.liveness.as_ref().unwrap();
    let asked = Probes.probe(&placed, "127.0.0.1", probe).map_err(|error| format!("{error:#}"));
    let script = liveness::render_script(&pod, "1a2b3c4d", &placed).unwrap();
    let later = vz::process::output(
        vz::process::command("bash").args(["-c", &script, "live.sh", "liveness"]),
    );
    assert_eq!(asked.is_ok(), later.is_ok(), "{asked:?}, and later {later:?}");
    asked
}

/// A pod on the node's network whose container has this livenessProbe.
fn with_probe(text: &str) -> (Pod, Placed) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  hostNetwork: true\n  containers:\n  - name: app\n    image: bundle:x\n    livenessProbe: {text}\n"
    );
    let (mut pods, violations) = pod::read(&text);
    assert_eq!(violations, []);
    let text_of = |name: &str| name.to_owned();
    let placed = Placed {
        name: text_of("app"),
        id: text_of("web.app"),
        unit: text_of("vz-web.app.service"),
        runtime: Runtime { name: text_of("crun"), path: text_of("/usr/bin/crun") },
        bundle: text_of("x"),
        bundle_id: text_of("x"),
        rootfs: text_of("/x"),
        restart: Restart::Always,
        startup: None,
        readiness: None,
        liveness: pods[0].containers[0].liveness.clone(),
    };
    (pods.remove(0), placed)
}

/// A start that neither systemd nor the script made begins anew, as systemd's own count does.
#[test]
fn a_container_that_is_started_again_since_it_does_not_answer_is_counted() {
    let sandbox = Sandbox::new();
    let (pod, placed) = with_probe("{exec: {command: [x]}, failureThreshold: 1}");
    let script = liveness::render_script(&pod, "1a2b3c4d", &placed).unwrap();
    let script = script.replace("/run/vz/live", sandbox.path("live").to_str().unwrap());
    for name in ["systemctl", "systemd-run", "logger"] {
        // What else they are asked for, they do.
        let text = "#!/bin/sh\ncase $* in *NRestarts*) cat restarts ;; esac\n";
        let path = sandbox.write(&format!("bin/{name}"), text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    let check = |verb: &str, systemds: u64, expected: &[&str]| {
        sandbox.write("restarts", format!("{systemds}\n"));
        let mut bash = sandbox.command("bash");
        bash.args(["-c", &script, "live.sh", verb]).env("PATH", &path);
        Finished::of(&mut bash).success();
        let count = sandbox.path("live/web.app.restarts");
        let count = std::fs::read_to_string(count).unwrap_or_default();
        assert_eq!(count.lines().collect::<Vec<_>>(), expected, "{verb} {systemds}");
    };
    check("watch", 0, &[]);
    check("watch", 2, &[]);
    check("ask", 2, &["3 again"]);
    check("watch", 0, &["3"]);
    check("watch", 1, &["3"]);
    check("ask", 1, &["5 again"]);
    check("watch", 0, &["5"]);
    check("watch", 0, &[]);
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server by TLS that refuses who asks for another name than example.org.
fn strict_server(sandbox: &Sandbox) -> (Server, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let [key, certificate] = ["key.pem", "cert.pem"].map(|file| sandbox.path(file));
    let mut make = vz::process::command("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    make.args(["-nodes", "-days", "1", "-subj", "/CN=example.org", "-keyout"]);
    vz::process::output(make.arg(&key).arg("-out").arg(&certificate)).unwrap();
    let mut serve = vz::process::command("openssl");
    serve.args(["s_server", "-quiet", "-www", "-servername", "example.org"]);
    serve.args(["-servername_fatal", "-accept", &format!("127.0.0.1:{port}")]);
    for (option, file) in
        [("-cert", &certificate), ("-cert2", &certificate), ("-key", &key), ("-key2", &key)]
    {
        serve.arg(option).arg(file);
    }
    serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(serve.spawn().unwrap());
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, port)
}

#[test]
fn https_is_probed_by_the_name_of_the_host_header_with_any_certificate() {
    let test = "https_is_probed_by_the_name_of_the_host_header_with_any_certificate";
    if !require(test, &[Need::Program("openssl", "openssl"), Need::Program("curl", "curl")]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (_server, port) = strict_server(&sandbox);
    let https = |host: &str| {
        probed(&format!(
            "{{httpGet: {{port: {port}, scheme: HTTPS, httpHeaders: [{{name: Host, value: {host}}}]}}, timeoutSeconds: 5}}"
        ))
    };
    assert_eq!(https("example.org"), Ok(()));
    let refused = https("example.com").unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    let plain = probed(&format!("{{httpGet: {{port: {port}}}, timeoutSeconds: 5}}"));
    assert!(plain.is_err());
}

#[test]
fn a_server_that_answers_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["HTTP", "HTTPS"] {
        let late = probed(&format!("{{httpGet: {{port: {port}, scheme: {scheme}}}}}"));
        assert!(late.unwrap_err().contains("no answer from"));
    }
    let tcp = format!("{{tcpSocket: {{port: {port}}}}}");
    assert_eq!(probed(&tcp), Ok(()));
    drop(listener);
    assert!(probed(&tcp).is_err());
}

#[test]
fn a_redirection_is_a_success_and_an_error_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Not waited for: it would wait for all questions.
    std::thread::spawn(move || {
        for answer in ["302 Found", "302 Found", "404 Not Found", "404 Not Found"] {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 1024]).unwrap();
            write!(stream, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
        }
    });
    let http = format!("{{httpGet: {{port: {port}}}, timeoutSeconds: 5}}");
    assert_eq!(probed(&http), Ok(()));
    assert!(probed(&http).unwrap_err().contains("answers 404"));
}
