//! vz-fleet(5): the files of a fleet's directory.

use clap_mangen::roff::{Roff, bold, roman};

/// A pod with nearly all that is honoured; a test reads it.
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: site
  annotations:
    vz/update: start-first
    vz/backend: container
    vz/stop-signal.nginx: SIGQUIT
spec:
  hostNetwork: false
  restartPolicy: Always
  terminationGracePeriodSeconds: 30
  volumes:
  - {name: data, hostPath: {path: /srv/site, type: DirectoryOrCreate}}
  - {name: work, emptyDir: {}}
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
  - {name: tls, secret: {secretName: site-tls}}
  containers:
  - name: nginx
    image: bundle:bundles/nginx
    command: [/usr/sbin/nginx]
    args: [-c, /etc/nginx.conf]
    env: [{name: TZ, value: UTC}]
    workingDir: /
    ports: [{name: https, containerPort: 8443, hostPort: 443, protocol: TCP}]
    volumeMounts:
    - {name: data, mountPath: /srv, readOnly: true}
    - {name: tls, mountPath: /etc/tls}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext:
      runAsUser: 33
      runAsGroup: 33
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
    readinessProbe:
      httpGet: {port: https, scheme: HTTPS, host: example.org, path: /up}
      periodSeconds: 2
    livenessProbe: {tcpSocket: {port: https}}
";

const GROUPS: &str = "\
web:
  pods: [site]
tools:
  hosts: [node-a, backup]
  pods: [log, dump]
";

const SECRETS: &str = "\
site-tls:
  tls.key: {file: keys/site.key}
  password: {command: [pass, show, site]}
";

const FILES: &[(&str, &str)] = &[
    (
        "hosts.ini",
        "An Ansible inventory; or hosts.yml, hosts.yaml, inventory.ini, inventory.yml, inventory.yaml, or what -i names. ansible_host, ansible_port and ansible_user are honoured.",
    ),
    (
        "groups.yaml",
        "Which hosts run which pods. A group without `hosts` has those of the inventory's group, or host, of its name.",
    ),
    ("pods/*.yaml", "Pods, one or more documents a file."),
    (
        "secrets.yaml",
        "Where secrets are found when they are needed, relative to the directory. A command runs there; one line end after what it prints is left out.",
    ),
    (
        "retired",
        "Hosts that are no more, one a line; `vzmaster retire` adds them, with the day and who it was. Take a line out to have the host back.",
    ),
];

const NOTES: &[(&str, &str)] = &[
    (
        "image",
        "bundle:DIR, a bundle's directory, relative to that of the fleet. Its root must be read-only; what is mounted must have its place in it (`vzbuild bundle --volume`).",
    ),
    (
        "command, args",
        "As in Kubernetes: command replaces the bundle's program and arguments, args its arguments. `$(NAME)` is not expanded, and refused.",
    ),
    (
        "hostNetwork",
        "Without it a pod has a network of its own, to which each hostPort of the node leads, and the containers talk on localhost. A probe asks from outside of it, so tcpSocket and httpGet do not reach what listens on 127.0.0.1 alone; exec does.",
    ),
    (
        "IPv6",
        "Where the node has it, a hostPort leads to the pod over IPv6, too, and the pod gets out. What listens on 0.0.0.0 alone refuses IPv6 at once: let it listen on `::`, which takes IPv4 as well. Probes ask over IPv4, so one that passes says nothing of IPv6. The node's own ::1 leads to no pod, since no kernel translates it; 127.0.0.1 and the node's other addresses do, but those of fe80::/10. Pods have addresses of fdc9:a024:e64e::/64 in the node only, so of a name that has both they mostly take IPv4. Where a node gets or loses IPv6 while a pod runs, diff says so, and deploy or a restart of the pod makes it right.",
    ),
    (
        "restartPolicy",
        "Always, OnFailure or Never. A job that ended well is kept as it is by deployments, and runs again at boot.",
    ),
    (
        "emptyDir",
        "Empty when the pod first comes to a node. On the disk (STORE/.volumes/POD) it outlives revisions, restarts and the pod itself; in memory it goes with the pod and with the node's power. A volume that is written to makes an update stop first, unless vz/update says otherwise.",
    ),
    (
        "hostPath",
        "With type DirectoryOrCreate it is made; else it has to be there, and the plan says where it is not.",
    ),
    (
        "hostPort",
        "A port of the node that is another process's, or that ssh comes in by, is refused before anything is changed. A pod with a network of its own would take it over from whoever listens there, at whatever address; one with hostNetwork may listen beside who has a single address.",
    ),
    (
        "secret",
        "A directory with a file for each key, in memory. A changed value is another revision.",
    ),
    (
        "resources.limits",
        "memory from 1Mi on, without swap, and cpu: systemd's MemoryMax= and CPUQuota=. What takes more memory ends alone and is started again. Requests are refused, since nothing schedules by them.",
    ),
    (
        "startupProbe, readinessProbe, livenessProbe",
        "They judge a deployment, with Kubernetes' times and defaults. For as long as the container runs, a livenessProbe is asked by a timer of systemd (after the startupProbe, where there is one), and what fails is started again, or killed with restartPolicy Never. HTTPS needs curl on the node for that.",
    ),
    ("vz/update", "start-first or stop-first, where the plan would choose otherwise."),
    (
        "vz/backend",
        "container (crun or runc below systemd, the default), quadlet (Podman's), or systemd (RootDirectory=).",
    ),
    ("vz/stop-signal.CONTAINER", "The signal that asks a container to end; SIGTERM by default."),
    (
        "standard output",
        "It is a socket of the journal, which a program cannot open by the name /dev/stdout: let it write to the stream that is open.",
    ),
];

/// Returns the page in roff.
pub(super) fn render() -> String {
    let mut page = Roff::new();
    page.control("TH", ["VZ-FLEET", "5", "", concat!("vz ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]);
    page.text([roman("vz-fleet - what is to run where, as vzmaster reads it")]);
    page.control("SH", ["FILES"]);
    for (name, meaning) in FILES {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*meaning)]);
    }
    page.control("SH", ["PODS"]);
    page.text([roman(
        "A part of Kubernetes' Pod; `vzmaster validate` refuses every other field by file and line. All that is honoured:",
    )]);
    literal(&mut page, POD);
    for (name, meaning) in NOTES {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*meaning)]);
    }
    for (name, text) in [("GROUPS", GROUPS), ("SECRETS", SECRETS)] {
        page.control("SH", [name]);
        literal(&mut page, text);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("vzmaster"), roman("(1), "), bold("vzbuild"), roman("(1)")]);
    page.render()
}

fn literal(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.control("EX", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{groups, pod, secret};

    #[test]
    fn what_the_page_shows_is_taken() {
        assert_eq!(pod::read(POD).1, []);
        assert_eq!(groups::read(GROUPS).1, []);
        assert_eq!(secret::read(SECRETS).1, []);
    }
}
