use crate::closure::{Options, Reason};
use crate::testing::close;

/// A root whose `/bin/p` is an ELF program of these `words`, with `files`
/// beside it, closed without (or with) an observed run.
fn closed(words: &str, files: &str, wanted: &str, observed: bool) -> crate::Closure {
    let files = format!(
        "/lib64/ld-linux-x86-64.so.2 = ELF soname=ld-linux-x86-64.so.2 has=/l/\\0/usr/l/\n\
         /bin/p = ELF interp=/lib64/ld-linux-x86-64.so.2 {words}\n{files}"
    );
    close(&files, wanted, &Options { observed, ..Options::default() })
}

/// The rule `name` takes in exactly `expected`, each with that rule as reason.
#[track_caller]
fn check(name: &str, words: &str, files: &str, expected: &[&str]) {
    let closure = closed(words, files, "/bin/p", false);
    assert_eq!(closure.missing, []);
    let mine = |reason: &Reason| matches!(reason, Reason::Rule { name: n, .. } if *n == name);
    let found: Vec<String> = closure
        .entries
        .iter()
        .chain(&closure.runtime)
        .filter(|(_, why)| mine(&why.reason))
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(found, expected);
}

/// The rule `name` says `text` of a hand-written spec, and nothing of a traced one.
#[track_caller]
fn check_warning(name: &str, words: &str, text: &str) {
    let warned = |observed| {
        let warnings = closed(words, "", "/bin/p", observed).warnings;
        warnings.into_iter().find(|w| w.kind == name).map(|w| w.message)
    };
    let message = warned(false).expect("a warning");
    assert!(message.starts_with("/bin/p ") && message.contains(text), "{message}");
    assert_eq!(warned(true), None);
}

#[test]
fn nss_passwd_takes_the_modules_that_nsswitch_conf_names() {
    let files = "/etc/nsswitch.conf = passwd: files extra absent\\n\n/etc/passwd\n/etc/group\n\
                 /l/libnss_files.so.2 = ELF\n/l/libnss_extra.so.2 = ELF needed=libx.so.1\n\
                 /usr/l/libx.so.1 = ELF\n/l/libnss_unused.so.2 = ELF";
    let expected =
        ["/etc/nsswitch.conf", "/etc/passwd", "/l/libnss_extra.so.2", "/l/libnss_files.so.2"];
    check("nss-passwd", "import=getpwnam_r", files, &expected);
    let closure = closed("import=getpwnam_r", files, "/bin/p", false);
    assert!(closure.entries.keys().any(|path| path.as_bytes() == b"/usr/l/libx.so.1"));
}

#[test]
fn a_libc_that_has_the_files_service_needs_no_module_for_it() {
    let files = "/etc/passwd\n/l/libnss_files.so.2 = ELF\n\
                 /l/libc.so.6 = ELF has=_nss_files_getpwnam_r";
    check("nss-passwd", "needed=libc.so.6 import=getpwuid", files, &["/etc/passwd"]);
}

#[test]
fn nss_group_takes_the_groups() {
    check("nss-group", "import=initgroups", "/etc/group\n/etc/passwd", &["/etc/group"]);
}

#[test]
fn nss_hosts_leaves_hosts_and_resolv_conf_to_the_host() {
    let files = "/etc/nsswitch.conf = hosts: files dns\\n\n/etc/hosts\n/etc/resolv.conf\n\
                 /etc/gai.conf\n/l/libnss_dns.so.2 = ELF";
    let expected = [
        "/etc/gai.conf",
        "/etc/nsswitch.conf",
        "/l/libnss_dns.so.2",
        "/etc/hosts",
        "/etc/resolv.conf",
    ];
    check("nss-hosts", "import=getaddrinfo", files, &expected);
}

#[test]
fn nss_services_and_protocols_take_their_files() {
    let files = "/etc/services\n/etc/protocols";
    check("nss-services", "import=getservbyname", files, &["/etc/services"]);
    check("nss-protocols", "import=getprotobyname", files, &["/etc/protocols"]);
}

#[test]
fn nss_follows_a_traced_run_only_where_it_looked_anything_up() {
    let files = "/etc/nsswitch.conf\n/etc/passwd";
    let has_passwd = |wanted| {
        let closure = closed("import=getpwnam", files, wanted, true);
        closure.entries.keys().any(|path| path.as_bytes() == b"/etc/passwd")
    };
    assert!(!has_passwd("/bin/p"));
    assert!(has_passwd("/bin/p /etc/nsswitch.conf"));
}

#[test]
fn nss_shadow_only_warns() {
    check_warning("nss-shadow", "import=getspnam", "secrets");
}

#[test]
fn libgcc_comes_with_thread_cancellation_also_after_a_trace() {
    let files = "/l/libgcc_s.so.1 = ELF";
    check("libgcc", "import=pthread_cancel", files, &["/l/libgcc_s.so.1"]);
    assert_eq!(closed("import=backtrace", files, "/bin/p", true).entries.len(), 3);
}

#[test]
fn gconv_takes_the_cache_or_else_the_text() {
    let text = "/usr/l/gconv/gconv-modules\n/usr/l/gconv/gconv-modules.d/x.conf";
    let expected = ["/usr/l/gconv/gconv-modules", "/usr/l/gconv/gconv-modules.d/x.conf"];
    check("gconv", "import=iconv_open", text, &expected);
    let cache = format!("{text}\n/usr/l/gconv/gconv-modules.cache");
    check("gconv", "import=iconv_open", &cache, &["/usr/l/gconv/gconv-modules.cache"]);
    check_warning("gconv", "import=iconv_open", "converters");
}

#[test]
fn a_converter_brings_its_index() {
    let files = "/usr/l/gconv/SJIS.so = ELF\n/usr/l/gconv/gconv-modules.cache";
    let closure = closed("", files, "/usr/l/gconv/SJIS.so", true);
    assert_eq!(closure.entries.len(), 2);
}

#[test]
fn pam_takes_its_configuration_and_warns_of_modules() {
    let files = "/l/libpam.so.0 = ELF\n/etc/pam.d/su\n/etc/pam.d/other";
    check("pam", "needed=libpam.so.0", files, &["/etc/pam.d/other", "/etc/pam.d/su"]);
    let warnings = closed("needed=libpam.so.0", files, "/bin/p", false).warnings;
    assert!(warnings.iter().any(|w| w.message.contains("PAM modules")), "{warnings:?}");
}

#[test]
fn openssl_has_its_configuration_where_it_was_built_to() {
    let files = "/l/libcrypto.so.3 = ELF has=OPENSSLDIR:\\s\"/usr/ssl\"\n\
                 /usr/ssl/openssl.cnf -> /etc/ssl/openssl.cnf\n/etc/ssl/openssl.cnf";
    let expected = ["/etc/ssl/openssl.cnf", "/usr/ssl/openssl.cnf"];
    check("openssl", "needed=libcrypto.so.3", files, &expected);
}

#[test]
fn certificate_authorities_come_with_their_links() {
    let files = "/etc/ssl/certs/ca-certificates.crt -> ../all.pem\n/etc/ssl/all.pem\n\
                 /l/libcurl.so.4 = ELF";
    let expected = ["/etc/ssl/all.pem", "/etc/ssl/certs/ca-certificates.crt"];
    check("ca-certificates", "import=SSL_CTX_set_default_verify_paths", files, &expected);
    check("ca-curl", "needed=libcurl.so.4", files, &expected);
}

#[test]
fn local_time_comes_with_its_zone() {
    let files = "/etc/localtime -> /usr/share/zoneinfo/CET\n/usr/share/zoneinfo/CET";
    let expected = ["/etc/localtime", "/usr/share/zoneinfo/CET"];
    check("time-zone", "import=localtime_r", files, &expected);
}

#[test]
fn locales_and_modules_are_warned_of() {
    check_warning("locale", "import=setlocale", "LANG");
    check_warning("dlopen-program", "import=dlopen", "modules");
}

#[test]
fn plugins_of_toolkits_are_warned_of() {
    for (rule, library) in [
        ("plugins-qt", "libQt5Core.so.5"),
        ("plugins-gstreamer", "libgstreamer-1.0.so.0"),
        ("plugins-gtk", "libgdk_pixbuf-2.0.so.0"),
    ] {
        let files = format!("/l/{library} = ELF");
        let warnings = closed(&format!("needed={library}"), &files, "/bin/p", false).warnings;
        assert!(warnings.iter().any(|w| w.kind == rule), "{rule}: {warnings:?}");
    }
}

#[test]
fn every_rule_has_a_name_of_its_own() {
    let mut names: Vec<&str> = super::RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), super::RULES.len());
}
