//! What files need without saying so: one rule an item, as data.
//!
//! A rule looks at what an ELF entry imports or is called. Where a run was
//! observed, it has shown what is used, and only rules about what a *later* run
//! may need beyond it apply; a spec written by hand has all of them.

mod apply;
mod nss;

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// A stable name, shown by `vzbuild explain`.
    pub(crate) name: &'static str,
    /// What the entry does, to be read after its path.
    pub(crate) why: &'static str,
    /// Which ELF entries it is about.
    pub(crate) when: When,
    /// What must be known of the run.
    pub(crate) given: Given,
    /// What follows, in order.
    pub(crate) then: &'static [Then],
}

/// Which ELF entries a rule is about.
#[derive(Debug)]
pub(crate) enum When {
    /// It imports one of these functions.
    Imports(&'static [&'static str]),
    /// It is a program, no library, and imports this function.
    ProgramImports(&'static str),
    /// Its file name begins so.
    Named(&'static str),
    /// It lies in a directory of this name.
    InDirectory(&'static str),
}

/// What must be known of the run for a rule to apply.
#[derive(Debug)]
pub(crate) enum Given {
    /// Nothing.
    Anything,
    /// No run was observed, or the observed run used this path.
    UnobservedOr(&'static str),
    /// No run was observed.
    Unobserved,
}

/// What follows from a rule.
#[derive(Debug)]
pub(crate) enum Then {
    /// This file or link, where it is there.
    File(&'static str),
    /// Every file in this directory, where it is there.
    Files(&'static str),
    /// This file is the host's or the runtime's, to be mounted.
    Mount(&'static str),
    /// This library, as the entry would get it by dlopen(3).
    Library(&'static str),
    /// The files and modules that nsswitch.conf(5) has for this database.
    Nss(&'static str),
    /// The index of gconv modules.
    GconvIndex,
    /// The configuration file of OpenSSL, where the library was built to find it.
    OpenSslConfig,
    /// A sentence for the operator; `{}` is the entry's path.
    Warn(&'static str),
}

/// Where distributions have the bundle of authorities.
const CA_FILES: &[Then] = &[
    Then::File("/etc/ssl/certs/ca-certificates.crt"),
    Then::File("/usr/lib/ssl/certs"),
    Then::File("/etc/ssl/cert.pem"),
    Then::File("/etc/pki/tls/certs/ca-bundle.crt"),
    Then::File("/etc/pki/tls/cert.pem"),
];

/// All rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "nss-passwd",
        why: "looks up users",
        when: When::Imports(&[
            "getpwnam",
            "getpwnam_r",
            "getpwuid",
            "getpwuid_r",
            "getpwent",
            "getpwent_r",
        ]),
        given: Given::UnobservedOr("/etc/nsswitch.conf"),
        then: &[Then::Nss("passwd")],
    },
    Rule {
        name: "nss-group",
        why: "looks up groups",
        when: When::Imports(&[
            "getgrnam",
            "getgrnam_r",
            "getgrgid",
            "getgrgid_r",
            "getgrent",
            "getgrent_r",
            "getgrouplist",
            "initgroups",
        ]),
        given: Given::UnobservedOr("/etc/nsswitch.conf"),
        then: &[Then::Nss("group")],
    },
    Rule {
        name: "nss-hosts",
        why: "looks up host names",
        when: When::Imports(&[
            "getaddrinfo",
            "getnameinfo",
            "gethostbyname",
            "gethostbyname_r",
            "gethostbyname2",
            "gethostbyname2_r",
            "gethostbyaddr",
            "gethostbyaddr_r",
        ]),
        given: Given::UnobservedOr("/etc/nsswitch.conf"),
        then: &[
            Then::Nss("hosts"),
            Then::File("/etc/host.conf"),
            Then::File("/etc/gai.conf"),
            Then::Mount("/etc/hosts"),
            Then::Mount("/etc/resolv.conf"),
        ],
    },
    Rule {
        name: "nss-services",
        why: "looks up services by name",
        when: When::Imports(&[
            "getservbyname",
            "getservbyname_r",
            "getservbyport",
            "getservbyport_r",
        ]),
        given: Given::UnobservedOr("/etc/services"),
        then: &[Then::Nss("services")],
    },
    Rule {
        name: "nss-protocols",
        why: "looks up protocols by name",
        when: When::Imports(&["getprotobyname", "getprotobyname_r", "getprotobynumber"]),
        given: Given::UnobservedOr("/etc/protocols"),
        then: &[Then::Nss("protocols")],
    },
    Rule {
        name: "nss-shadow",
        why: "looks up passwords",
        when: When::Imports(&["getspnam", "getspnam_r", "getspent"]),
        given: Given::Unobserved,
        then: &[Then::Warn(
            "{} looks up passwords, and /etc/shadow is left out since it holds secrets: name it in \
             the spec if the bundle must have it",
        )],
    },
    Rule {
        name: "libgcc",
        why: "ends or cancels threads, or prints a backtrace, for which glibc loads libgcc_s",
        when: When::Imports(&["pthread_exit", "pthread_cancel", "backtrace"]),
        given: Given::Anything,
        then: &[Then::Library("libgcc_s.so.1")],
    },
    Rule {
        name: "gconv",
        why: "converts character sets",
        when: When::Imports(&["iconv_open"]),
        given: Given::Unobserved,
        then: &[
            Then::GconvIndex,
            Then::Warn(
                "{} converts character sets, and converters other than those built into glibc \
                 (UTF-8, UTF-16, ASCII) are left out: trace a run, or name gconv/NAME.so in the spec",
            ),
        ],
    },
    Rule {
        name: "gconv-index",
        why: "is a converter that glibc finds by an index",
        when: When::InDirectory("gconv"),
        given: Given::Anything,
        then: &[Then::GconvIndex],
    },
    Rule {
        name: "pam",
        why: "authenticates users by PAM",
        when: When::Named("libpam.so"),
        given: Given::UnobservedOr("/etc/pam.d"),
        then: &[
            Then::File("/etc/pam.conf"),
            Then::Files("/etc/pam.d"),
            Then::Warn(
                "{} loads the PAM modules that /etc/pam.d names, and only those of the spec are \
                 in: trace a login, or name security/pam_NAME.so in the spec",
            ),
        ],
    },
    Rule {
        name: "openssl",
        why: "reads OpenSSL's configuration when it starts",
        when: When::Named("libcrypto.so"),
        given: Given::Unobserved,
        then: &[
            Then::OpenSslConfig,
            Then::Warn(
                "{} loads providers other than the default one from ossl-modules only when asked \
                 to, and they are left out: name ossl-modules/legacy.so in the spec if old \
                 ciphers are wanted",
            ),
        ],
    },
    Rule {
        name: "ca-certificates",
        why: "checks certificates by the system's authorities",
        when: When::Imports(&[
            "SSL_CTX_set_default_verify_paths",
            "SSL_CTX_set_default_verify_file",
            "X509_STORE_set_default_paths",
            "gnutls_certificate_set_x509_system_trust",
        ]),
        given: Given::Unobserved,
        then: CA_FILES,
    },
    Rule {
        name: "time-zone",
        why: "converts to local time",
        when: When::Imports(&["localtime", "localtime_r", "mktime", "tzset"]),
        given: Given::Unobserved,
        then: &[Then::File("/etc/localtime")],
    },
    Rule {
        name: "locale",
        why: "sets a locale",
        when: When::Imports(&["setlocale", "newlocale"]),
        given: Given::Unobserved,
        then: &[Then::Warn(
            "{} can use locales, and none is in beside the built-in C: trace a run with LANG set, \
             or name the files of /usr/lib/locale in the spec",
        )],
    },
    Rule {
        name: "ca-curl",
        why: "checks certificates by the system's authorities",
        when: When::Named("libcurl"),
        given: Given::Unobserved,
        then: CA_FILES,
    },
    Rule {
        name: "dlopen-program",
        why: "loads libraries while it runs",
        when: When::ProgramImports("dlopen"),
        given: Given::Unobserved,
        then: &[Then::Warn(
            "{} can load libraries or modules while it runs, which its file does not name: trace a \
             run, or name them in the spec",
        )],
    },
    Rule {
        name: "plugins-qt",
        why: "loads Qt's plugins",
        when: When::Named("libQt"),
        given: Given::Unobserved,
        then: &[Then::Warn(
            "{} loads Qt plugins while it runs, and only those of the spec are in: trace a run",
        )],
    },
    Rule {
        name: "plugins-gstreamer",
        why: "loads GStreamer's plugins",
        when: When::Named("libgstreamer-"),
        given: Given::Unobserved,
        then: &[Then::Warn(
            "{} loads GStreamer plugins while it runs, and only those of the spec are in: trace a \
             run",
        )],
    },
    Rule {
        name: "plugins-gtk",
        why: "loads image loaders and modules",
        when: When::Named("libgdk_pixbuf-"),
        given: Given::Unobserved,
        then: &[Then::Warn(
            "{} loads image loaders while it runs, and only those of the spec are in: trace a run",
        )],
    },
];

#[cfg(test)]
mod tests;
