//! What is mounted where, from mountinfo.

use crate::sys::Tid;

/// File systems without files of their own, by the names of /proc/filesystems:
/// what they show is made by the kernel, or belongs to this boot.
const PSEUDO: &[&[u8]] = &[
    b"autofs",
    b"binder",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"cpuset",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"fusectl",
    b"hugetlbfs",
    b"mqueue",
    b"nfsd",
    b"nsfs",
    b"proc",
    b"pstore",
    b"resctrl",
    b"rpc_pipefs",
    b"securityfs",
    b"selinuxfs",
    b"smackfs",
    b"sysfs",
    b"tracefs",
];

/// What kind of file system it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FsKind {
    /// It has files.
    Plain,
    /// It has none of its own.
    Pseudo,
    /// Pseudo, and its links depend on who follows them.
    Proc,
}

impl FsKind {
    /// The kind by statfs(2)'s `f_type`: `PROC_SUPER_MAGIC`, `SYSFS_MAGIC`, … of
    /// <linux/magic.h>.
    pub(crate) fn of_magic(magic: i64) -> FsKind {
        match magic {
            0x9fa0 => FsKind::Proc,
            0x6265_6572 | 0x1cd1 | 0x27_e0eb | 0x6367_7270 | 0x6462_6720 | 0x7472_6163
            | 0x7363_6673 | 0x1980_0202 => FsKind::Pseudo,
            _ => FsKind::Plain,
        }
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `st_dev` of its files.
    pub(crate) device: u64,
    /// Which directory of its file system is mounted.
    pub(crate) root: Vec<u8>,
    /// Where, as seen from the reader's root.
    pub(crate) point: Vec<u8>,
    pub(crate) kind: FsKind,
    pub(crate) read_only: bool,
    /// In memory: what lies there was made since it was mounted.
    pub(crate) fresh: bool,
}

/// The mounts of a task, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the mounts of `tid`; none where /proc does not tell.
    pub(crate) fn of(tid: Tid) -> Self {
        Mounts::parse(&std::fs::read(format!("/proc/{tid}/mountinfo")).unwrap_or_default())
    }

    /// Reads the text of a mountinfo, proc_pid_mountinfo(5).
    pub(crate) fn parse(text: &[u8]) -> Self {
        Mounts(text.split(|&b| b == b'\n').filter_map(parse_line).collect())
    }

    /// The mounts that no later mount hides.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Mount> {
        let hidden = |place: usize, mount: &Mount| {
            self.0.iter().skip(place + 1).any(|later| below(&mount.point, &later.point).is_some())
        };
        self.0.iter().enumerate().filter(move |(place, m)| !hidden(*place, m)).map(|(_, m)| m)
    }

    /// What kind of file system has this `st_dev`, if it is one of these.
    pub(crate) fn kind(&self, device: u64) -> Option<FsKind> {
        self.0.iter().find(|mount| mount.device == device).map(|mount| mount.kind)
    }

    /// The mount that a path without links lies on: the last that covers it.
    pub(crate) fn covering(&self, path: &[u8]) -> Option<&Mount> {
        let covers = |mount: &&Mount| below(path, &mount.point).is_some();
        // A later mount on the same point hides the former, a longer one is nearer.
        self.0.iter().filter(covers).max_by_key(|mount| mount.point.len())
    }

    /// Where the file at `path` of `theirs` lies as seen through these mounts.
    pub(crate) fn map(&self, theirs: &Mounts, path: &[u8]) -> Option<Vec<u8>> {
        let mount = theirs.covering(path)?;
        let inside = join(&mount.root, below(path, &mount.point)?);
        self.0.iter().filter(|ours| ours.device == mount.device).find_map(|ours| {
            let here = join(&ours.point, below(&inside, &ours.root)?);
            // Another mount may hide it here.
            (self.covering(&here)? == ours).then_some(here)
        })
    }
}

/// What `path` has below `dir`: empty for `dir` itself, else without its slash.
pub(crate) fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    if dir == b"/" {
        return path.strip_prefix(b"/");
    }
    match path.strip_prefix(dir)? {
        b"" => Some(b""),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// `dir` with `rest` below it.
pub(crate) fn join(dir: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !rest.is_empty() {
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(rest);
    }
    path
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let numbers = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = numbers.split_once(':')?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let read_only = fields.next()?.split(|&b| b == b',').any(|option| option == b"ro");
    let mut rest = fields.skip_while(|field| *field != b"-");
    rest.next();
    let name = rest.next()?;
    let fresh = matches!(name, b"tmpfs" | b"ramfs");
    let kind = match name {
        b"proc" => FsKind::Proc,
        name if PSEUDO.contains(&name) => FsKind::Pseudo,
        _ => FsKind::Plain,
    };
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some(Mount { device, root, point, kind, read_only, fresh })
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = |b: u8| (b'0'..=b'7').contains(&b).then(|| u32::from(b - b'0'));
        if let (b'\\', [a, b, c, after @ ..]) = (*first, tail)
            && let (Some(a), Some(b), Some(c)) = (octal(*a), octal(*b), octal(*c))
        {
            bytes.push((a * 64 + b * 8 + c) as u8);
            rest = after;
            continue;
        }
        bytes.push(*first);
        rest = tail;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /dev rw - devtmpfs devtmpfs rw
24 22 0:20 / /proc rw - proc proc rw
25 22 254:1 /data/a\\040b /srv rw master:1 - ext4 /dev/vdb rw
";

    fn check_map(theirs: &[u8], path: &str, expected: Option<&str>) {
        let ours = Mounts::parse(TEXT);
        let found = ours.map(&Mounts::parse(theirs), path.as_bytes());
        assert_eq!(found.as_deref(), expected.map(str::as_bytes));
    }

    #[test]
    fn kinds_are_told_by_file_system_type() {
        let mounts = Mounts::parse(TEXT);
        assert_eq!(mounts.kind(rustix::fs::makedev(0, 5)), Some(FsKind::Pseudo));
        assert_eq!(mounts.kind(rustix::fs::makedev(0, 20)), Some(FsKind::Proc));
        assert_eq!(mounts.kind(rustix::fs::makedev(254, 0)), Some(FsKind::Plain));
        assert_eq!(mounts.kind(1), None);
        assert_eq!(mounts.covering(b"/srv/x").unwrap().root, b"/data/a b");
        assert_eq!(mounts.covering(b"/srvx").unwrap().point, b"/");
    }

    #[test]
    fn a_hidden_mount_is_not_visible() {
        let twice = b"1 1 1:1 / / rw - ext4 x rw\n2 1 1:2 / /a rw - ext4 x rw\n\
                      3 2 1:3 / /a/b rw - ext4 x rw\n4 1 1:4 / /a ro - ext4 x rw\n";
        let mounts = Mounts::parse(twice);
        let visible: Vec<_> = mounts.visible().map(|m| (m.point.as_slice(), m.read_only)).collect();
        assert_eq!(visible, [(&b"/"[..], false), (b"/a", true)]);
    }

    #[test]
    fn a_path_behind_a_bind_mount_is_mapped_back() {
        let bind = b"1 1 254:0 / / rw - ext4 x rw\n2 1 254:0 /usr/share /mnt rw - ext4 x rw\n";
        check_map(bind, "/mnt/zoneinfo", Some("/usr/share/zoneinfo"));
        check_map(bind, "/etc/passwd", Some("/etc/passwd"));
    }

    #[test]
    fn what_lies_outside_or_is_hidden_is_not_mapped() {
        check_map(b"1 1 7:3 / / rw - squashfs x rw\n", "/etc/passwd", None);
        check_map(b"1 1 254:1 / / rw - ext4 x rw\n", "/data/other/f", None);
        check_map(b"1 1 254:1 / / rw - ext4 x rw\n", "/data/a b/f", Some("/srv/f"));
        check_map(b"1 1 254:0 / /m rw - ext4 x rw\n", "/m/srv/f", None);
    }
}
