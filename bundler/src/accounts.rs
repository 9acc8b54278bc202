//! /etc/passwd and /etc/group cut down to who is met in a bundle.

use std::collections::BTreeSet;

/// User and group id of `nobody`, whom servers like to become.
const NOBODY: u32 = 65534;

/// Who is met in a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// User ids that own files or run the command.
    pub uids: BTreeSet<u32>,
    /// Group ids that own files or run the command.
    pub gids: BTreeSet<u32>,
    /// Words that may be names: of the command and of configuration files,
    /// where a server reads whom it is to become.
    pub words: BTreeSet<Vec<u8>>,
}

impl Met {
    /// Takes the words of `text` that have the form of a user's name; parts of
    /// paths (`/bin`) have not.
    pub fn read(&mut self, text: &[u8]) {
        let ends = |b: &u8| b.is_ascii_whitespace() || b"\"'=:;,()<>".contains(b);
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        // 32 bytes: UT_NAMESIZE, the longest name that useradd(8) takes.
        let is_name = |word: &&[u8]| (1..=32).contains(&word.len()) && word.iter().all(is_part);
        self.words.extend(text.split(ends).filter(is_name).map(<[u8]>::to_vec));
    }
}

/// Returns the lines of `passwd` and of `group` (passwd(5), group(5)) that are
/// about `met`, root and nobody; a group keeps only those members. Lines that
/// do not have the form are dropped.
pub fn cut(passwd: &[u8], group: &[u8], met: &Met) -> (Vec<u8>, Vec<u8>) {
    let mut users = BTreeSet::new();
    let mut gids = met.gids.clone();
    gids.extend([0, NOBODY]);
    let mut kept_passwd = Vec::new();
    for line in lines(passwd) {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else { continue };
        let (Some(uid), Some(gid)) = (number(uid), number(gid)) else { continue };
        if uid == 0 || uid == NOBODY || met.uids.contains(&uid) || met.words.contains(*name) {
            users.insert(name.to_vec());
            gids.insert(gid);
            push_line(&mut kept_passwd, line);
        }
    }
    let mut kept_group = Vec::new();
    for line in lines(group) {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, password, gid, members] = fields.as_slice() else { continue };
        let Some(number) = number(gid) else { continue };
        let members: Vec<&[u8]> =
            members.split(|&b| b == b',').filter(|member| users.contains(*member)).collect();
        if gids.contains(&number) || !members.is_empty() || met.words.contains(*name) {
            let members = members.join(&b","[..]);
            push_line(&mut kept_group, &[name, *password, gid, &members].join(&b":"[..]));
        }
    }
    (kept_passwd, kept_group)
}

/// Finds whom `user` means: a name of `passwd` or a number, and after a colon
/// a name of `group` or a number. Returns the user, the group, and the
/// supplementary groups where no group is given.
pub fn find(user: &str, passwd: &[u8], group: &[u8]) -> Option<(u32, u32, BTreeSet<u32>)> {
    let (user, wanted) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let entry = lines(passwd).find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else { return None };
        let (uid, gid) = (number(uid)?, number(gid)?);
        (*name == user.as_bytes() || user.parse() == Ok(uid)).then(|| (name.to_vec(), uid, gid))
    });
    let uid = entry.as_ref().map(|(_, uid, _)| *uid).or_else(|| user.parse().ok())?;
    if let Some(wanted) = wanted {
        let gid = lines(group).find_map(|line| {
            let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
            let [name, _, gid, ..] = fields.as_slice() else { return None };
            (*name == wanted.as_bytes()).then(|| number(gid)).flatten()
        });
        return Some((uid, gid.or_else(|| wanted.parse().ok())?, BTreeSet::new()));
    }
    let Some((name, _, gid)) = entry else { return Some((uid, 0, BTreeSet::new())) };
    let groups = lines(group).filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [_, _, gid, members] = fields.as_slice() else { return None };
        members.split(|&b| b == b',').any(|member| member == name).then(|| number(gid)).flatten()
    });
    Some((uid, gid, groups.collect()))
}

/// The home directory of `uid`; `/` where `passwd` does not tell.
pub fn home(passwd: &[u8], uid: u32) -> String {
    let home = lines(passwd).find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [_, _, id, _, _, home, ..] = fields.as_slice() else { return None };
        (number(id) == Some(uid)).then(|| String::from_utf8(home.to_vec()).ok()).flatten()
    });
    home.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// The names of the users of `passwd` that are UTF-8, in their order.
pub fn names(passwd: &[u8]) -> Vec<String> {
    let names = lines(passwd).filter_map(|line| line.split(|&b| b == b':').next());
    names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

fn push_line(text: &mut Vec<u8>, line: &[u8]) {
    text.extend_from_slice(line);
    text.push(b'\n');
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/:/usr/sbin/nologin
www-data:x:33:33::/var/www:/usr/sbin/nologin
ann:x:1000:1000:Ann:/home/ann:/bin/bash
+::::::
";
    const GROUP: &str = "root:x:0:
adm:x:4:ann,www-data
www-data:x:33:
ann:x:1000:
sudo:x:27:ann
";

    fn check(met: &Met, passwd: &str, group: &str) {
        let (found_passwd, found_group) = cut(PASSWD.as_bytes(), GROUP.as_bytes(), met);
        let names = |text: Vec<u8>| {
            let text = String::from_utf8(text).unwrap();
            let names: Vec<_> = text.lines().map(|l| l.split(':').next().unwrap()).collect();
            names.join(" ")
        };
        assert_eq!((names(found_passwd), names(found_group)), (passwd.into(), group.into()));
    }

    #[test]
    fn owners_and_who_is_named_stay() {
        check(&Met::default(), "root", "root");
        check(&Met { uids: [33].into(), ..Met::default() }, "root www-data", "root adm www-data");
        let mut met = Met::default();
        met.read(b"# nginx, not /usr/sbin/daemon\nuser www-data;\n");
        check(&met, "root www-data", "root adm www-data");
    }

    #[test]
    fn a_group_keeps_only_members_who_stay() {
        let met = Met { uids: [33].into(), ..Met::default() };
        let (_, group) = cut(PASSWD.as_bytes(), GROUP.as_bytes(), &met);
        assert!(String::from_utf8(group).unwrap().contains("adm:x:4:www-data\n"));
    }

    #[test]
    fn a_user_is_a_name_or_a_number() {
        let find = |user| super::find(user, PASSWD.as_bytes(), GROUP.as_bytes());
        assert_eq!(find("ann"), Some((1000, 1000, [4, 27].into())));
        assert_eq!(find("1000"), find("ann"));
        assert_eq!(find("www-data:adm"), Some((33, 4, [].into())));
        assert_eq!(find("5:6"), Some((5, 6, [].into())));
        assert_eq!(find("5"), Some((5, 0, [].into())));
        assert_eq!(find("bob"), None);
        assert_eq!(find("ann:bobs"), None);
    }

    #[test]
    fn a_home_is_that_of_passwd() {
        assert_eq!(home(PASSWD.as_bytes(), 33), "/var/www");
        assert_eq!(home(PASSWD.as_bytes(), 34), "/");
        assert_eq!(names(PASSWD.as_bytes())[..2], ["root", "daemon"]);
    }
}
