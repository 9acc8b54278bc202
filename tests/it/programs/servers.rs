//! Servers: started, exercised by a client from outside, ended by SIGTERM.

use super::check::{Program, Server, fresh_dir};
use crate::sandbox::{Need, Sandbox};

const CURL: Need = Need::Program("curl", "curl");

#[test]
fn node_serves_http() {
    let script = r"
const fs = require('fs'), http = require('http'), zlib = require('zlib');
const text = fs.readFileSync('page.txt');
const server = http.createServer((request, response) => {
  response.setHeader('content-encoding', 'gzip');
  response.end(zlib.gzipSync(request.url + ' ' + text));
});
server.listen(18431, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
";
    let make = |sandbox: &Sandbox| {
        sandbox.write("server.js", script);
        sandbox.write("page.txt", "hello from node\n");
    };
    let program = Program {
        name: "node http",
        needs: &[Need::Program("node", "nodejs"), CURL],
        prepare: &make,
        args: &["node", "server.js"],
    };
    let client = "curl -sS --fail --compressed http://127.0.0.1:18431/path";
    Server { program, port: 18431, client }.check();
}

#[test]
fn nginx_serves_a_file_over_tls() {
    let make = |sandbox: &Sandbox| {
        let dir = fresh_dir(sandbox, "site");
        let dir = dir.display();
        sandbox.write("site/html/index.html", "hello over TLS\n");
        let config = format!(
            "user www-data; pid {dir}/nginx.pid; error_log stderr;
             events {{}}
             http {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
               fastcgi_temp_path {dir}/fcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
               include /etc/nginx/mime.types;
               server {{ listen 127.0.0.1:18432 ssl; ssl_certificate {dir}/cert.pem;
                 ssl_certificate_key {dir}/key.pem; root {dir}/html; }} }}"
        );
        sandbox.write("site/nginx.conf", config);
        let make_key = "chmod 755 . && cd site && openssl req -x509 -newkey rsa:2048 -nodes -days 9 \
            -subj /CN=localhost -keyout key.pem -out cert.pem 2>&1";
        crate::sandbox::Finished::of(sandbox.command("sh").args(["-c", make_key])).success();
    };
    let program = Program {
        name: "nginx TLS",
        needs: &[
            Need::Program("/usr/sbin/nginx", "nginx-light"),
            Need::Program("openssl", "openssl"),
            CURL,
        ],
        prepare: &make,
        args: &["/usr/sbin/nginx", "-c", "{dir}/site/nginx.conf", "-g", "daemon off;"],
    };
    let client = "curl -sS --fail --cacert {dir}/site/cert.pem https://localhost:18432/ && \
        curl -sS -o /dev/null -w '%{http_code} %{content_type}\\n' -k https://127.0.0.1:18432/none";
    Server { program, port: 18432, client }.check();
}

#[test]
fn redis_sets_and_gets() {
    let make = |sandbox: &Sandbox| drop(fresh_dir(sandbox, "data"));
    let program = Program {
        name: "redis",
        needs: &[
            Need::Program("redis-server", "redis-server"),
            Need::Program("redis-cli", "redis-tools"),
        ],
        prepare: &make,
        args: &["redis-server", "--port", "18433", "--bind", "127.0.0.1", "--dir", "{dir}/data"],
    };
    let client = "redis-cli -p 18433 set key value && redis-cli -p 18433 get key && \
        redis-cli -p 18433 eval 'return redis.call(\"incr\", \"n\")' 0 && redis-cli -p 18433 save";
    Server { program, port: 18433, client }.check();
}

#[test]
fn beanstalkd_takes_and_gives_a_job() {
    let program = Program {
        name: "beanstalkd",
        needs: &[Need::Program("beanstalkd", "beanstalkd"), Need::Program("bash", "bash")],
        prepare: &|_| {},
        args: &["beanstalkd", "-l", "127.0.0.1", "-p", "18434"],
    };
    let client = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/18434; \
        printf \"put 0 0 60 5\\r\\nhello\\r\\nreserve\\r\\nquit\\r\\n\" >&3; cat <&3'";
    Server { program, port: 18434, client }.check();
}

#[test]
fn gearman_carries_work_to_a_worker_and_back() {
    let make = |sandbox: &Sandbox| drop(fresh_dir(sandbox, "log"));
    let program = Program {
        name: "gearmand",
        needs: &[
            Need::Program("gearmand", "gearman-job-server"),
            Need::Program("gearman", "gearman-tools"),
        ],
        prepare: &make,
        args: &["gearmand", "-L", "127.0.0.1", "-p", "18435", "-l", "{dir}/log/gearmand.log"],
    };
    let client = "gearman -h 127.0.0.1 -p 18435 -w -c 1 -f reverse -- rev & \
        printf 'stressed\\n' | timeout 30 gearman -h 127.0.0.1 -p 18435 -f reverse; wait";
    Server { program, port: 18435, client }.check();
}
