//! From two programs of this machine to a pod on the nodes, by our own tools alone.

use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::load::get;
use super::{Nodes, nodes};
use crate::sandbox::{Finished, Need, Sandbox, require};

const APP: &str = "\
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'the app says ' + self.path.encode())
HTTPServer(('127.0.0.1', 8483), Answer).serve_forever()
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: vz-test}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: nginx
    image: bundle:bundles/nginx
    ports: [{name: http, containerPort: 8482, hostPort: 8380}]
    resources: {limits: {memory: 64Mi}}
    readinessProbe: {httpGet: {port: http, path: /ready}, periodSeconds: 1}
  - name: app
    image: bundle:bundles/app
    resources: {limits: {memory: 64Mi}}
    startupProbe: {exec: {command: [/usr/bin/python3, -c, 'import http.server']}, timeoutSeconds: 10, periodSeconds: 1, failureThreshold: 30}
";

/// Ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Traces a server until a client got its answer, and bundles it.
fn bundle(sandbox: &Sandbox, name: &str, port: u16, words: &[&str]) {
    let client = format!("curl -sS --fail http://127.0.0.1:{port}/traced");
    let spec = format!("{name}.spec");
    let mut trace = sandbox.command("smith-strace");
    trace.args(["-o", &spec, "--until", &client, "--ready-port", &port.to_string(), "--"]);
    Finished::of(trace.args(words)).success();
    sandbox.run("vzbuild", ["bundle", &spec, "-o", &format!("bundles/{name}")]).success();
}

/// Bundles of nginx and of the program that it asks, and a pod of both.
fn build(nodes: &Nodes) {
    let sandbox = &nodes.sandbox;
    let dir = sandbox.path("");
    let dir = dir.display().to_string();
    let dir = dir.trim_end_matches('/');
    std::fs::create_dir_all(sandbox.path("site")).unwrap();
    std::fs::create_dir_all(sandbox.path("bundles")).unwrap();
    let config = format!(
        "user www-data; pid {dir}/site/nginx.pid; error_log stderr; worker_processes 1;
         events {{}}
         http {{ access_log off; client_body_temp_path {dir}/site/body; proxy_temp_path {dir}/site/proxy;
           fastcgi_temp_path {dir}/site/fcgi; uwsgi_temp_path {dir}/site/uwsgi; scgi_temp_path {dir}/site/scgi;
           server {{ listen 8482; location / {{ proxy_pass http://127.0.0.1:8483; }} }} }}"
    );
    sandbox.write("site/nginx.conf", config);
    sandbox.write("app.py", APP);
    let app = format!("{dir}/app.py");
    bundle(sandbox, "app", 8483, &["/usr/bin/python3", &app]);
    let mut server = sandbox.command("/usr/bin/python3");
    let server = server.arg(&app).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Ended(server.spawn().unwrap());
    while TcpStream::connect(("127.0.0.1", 8483)).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    let config = format!("{dir}/site/nginx.conf");
    bundle(sandbox, "nginx", 8482, &["/usr/sbin/nginx", "-c", &config, "-g", "daemon off;"]);
    drop(server);
    sandbox.write("pods/test.yaml", POD);
}

#[test]
fn a_pod_of_two_containers_is_traced_bundled_deployed_and_survives_a_reboot() {
    let test = "a_pod_of_two_containers_is_traced_bundled_deployed_and_survives_a_reboot";
    let Some(nodes) = nodes(test) else { return };
    let needs = [
        Need::Root,
        Need::Program("/usr/sbin/nginx", "nginx-light"),
        Need::Program("/usr/bin/python3", "python3"),
        Need::Program("curl", "curl"),
    ];
    if !require(test, &needs) {
        return;
    }
    build(&nodes);
    nodes.vzmaster(&["validate"]).success();
    nodes.vzmaster(&["deploy", "-y"]).success();
    nodes.vzmaster(&["diff"]).success();
    let said = |node: &str| get(nodes.published(node, 8380));
    for node in &nodes.names {
        assert_eq!(said(node).as_deref(), Ok("the app says /"), "{node}");
    }
    let victim = &nodes.names[0];
    nodes.reboot(victim);
    let started = Instant::now();
    while said(victim).is_err() {
        assert!(started.elapsed() < Duration::from_secs(60), "{victim} does not serve");
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(said(victim).as_deref(), Ok("the app says /"));
    nodes.vzmaster(&["diff"]).success();
}
