use super::*;
use crate::packages::Packages;
use crate::rootfs::Rootfs;
use crate::testing::tree;

/// A value of a header: its type, its count, its bytes.
type Value<'a> = (u32, u32, &'a [u8]);

/// A header with these tags, as rpm writes them into its database: a region of all but
/// the last `after`, which installation has added.
fn header(tags: &[(u32, Value<'_>)], after: usize) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    let region = tags.len() - after;
    let entry = |tag: u32, kind: u32, at: u32, count: u32| {
        [tag, kind, at, count].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>()
    };
    let mut end = 0;
    for (place, (tag, (kind, count, bytes))) in tags.iter().enumerate() {
        if place == region {
            end = data.len() as u32;
            data.extend(entry(63, 7, (16 * (region as u32 + 1)).wrapping_neg(), 16));
        }
        data.resize(data.len().next_multiple_of(4), 0);
        index.extend(entry(*tag, *kind, data.len() as u32, *count));
        data.extend_from_slice(bytes);
    }
    let count = (tags.len() as u32 + 1).to_be_bytes();
    let length = (data.len() as u32).to_be_bytes();
    [&count[..], &length, &entry(63, 7, end, 16), &index, &data].concat()
}

/// A package of four files in two directories, of which one was not installed and one
/// is a directory.
fn package(name: &str) -> Vec<u8> {
    let name = format!("{name}\0");
    let indexes: Vec<u8> = [0, 0, 1, 0].into_iter().flat_map(u32::to_be_bytes).collect();
    let modes: Vec<u8> = [0o100_755, 0o100_644, 0o100_644, 0o040_755]
        .into_iter()
        .flat_map(u16::to_be_bytes)
        .collect();
    let tags: [(u32, Value<'_>); 13] = [
        (header::NAME, (6, 1, name.as_bytes())),
        (header::VERSION, (6, 1, b"1.2\0")),
        (header::RELEASE, (6, 1, b"3.fc40\0")),
        (header::EPOCH, (4, 1, &2_u32.to_be_bytes())),
        (1004, (9, 1, b"what it is for\0")),
        (header::LICENSE, (6, 1, b"MIT AND BSD\0")),
        (header::ARCH, (6, 1, b"x86_64\0")),
        (header::SOURCERPM, (6, 1, b"source-1.2-3.fc40.src.rpm\0")),
        (header::FILEMODES, (3, 4, &modes)),
        (header::DIRINDEXES, (4, 4, &indexes)),
        (header::BASENAMES, (8, 4, b"run\0plain\0data\0dir\0")),
        (header::DIRNAMES, (8, 2, b"/bin/\0/usr/share/x/\0")),
        (header::FILESTATES, (1, 4, &[0, 2, 0, 0])),
    ];
    header(&tags, 1)
}

/// The headers of a database, or why it has none.
fn read_all(database: &[u8], log: Option<&[u8]>) -> Result<Vec<Vec<u8>>, DatabaseError> {
    let input = |bytes| Input::<[u8]> { source: bytes, length: bytes.len() as u64 };
    let mut found = Vec::new();
    headers(input(database), log.map(input), &mut |header| {
        found.push(header.cut(|_| true));
        Ok(())
    })?;
    Ok(found)
}

fn files(header: &[u8]) -> Vec<String> {
    let header = Header::parse(header).unwrap();
    header.files().map(|(_, path)| String::from_utf8(path).unwrap()).collect()
}

#[test]
fn a_header_is_cut_down_to_kept_files_and_what_scanners_read() {
    let whole = package("p");
    assert_eq!(files(&whole), ["/bin/run", "/bin/plain", "/usr/share/x/data", "/bin/dir"]);
    let less = cut(&whole, |path| path.ends_with(b"data"));
    assert_eq!(files(&less), ["/usr/share/x/data"]);
    let header = Header::parse(&less).unwrap();
    assert_eq!(header.text(header::LICENSE), Some(&b"MIT AND BSD"[..]));
    assert_eq!(header.number(header::EPOCH), Some(2));
    assert_eq!(header.strings(header::DIRNAMES).collect::<Vec<_>>(), [b"/usr/share/x/"]);
    assert_eq!(header.text(1004), None);
    assert_eq!(header.numbers(header::FILEMODES).collect::<Vec<_>>(), [0o100_644]);
    assert_eq!(cut(&less, |_| true), less);
    assert_eq!(files(&cut(&whole, |_| false)), [""; 0]);
    assert_eq!(cut(b"no header", |_| true), b"");
}

#[test]
fn a_database_of_any_size_is_read_as_it_was_written() {
    let long = |size: usize| {
        let name = "n".repeat(size) + "\0";
        cut(&header(&[(header::NAME, (6, 1, name.as_bytes()))], 0), |_| true)
    };
    // Rows that just fit into a page and that just do not, chains of pages, three levels.
    for sizes in [vec![], vec![1], (3900..4200).collect(), vec![8, 20_000, 9], vec![9; 20_000]] {
        let all: Vec<Vec<u8>> = sizes.iter().map(|&size| long(size)).collect();
        let written = database(&all);
        assert_eq!(written, database(&all));
        assert!(read_all(&written, None).unwrap() == all, "{} packages", all.len());
    }
}

#[test]
fn a_package_owns_what_was_installed_of_it() {
    let dir = tree(
        "/usr/bin/\n/bin -> usr/bin\n/usr/share/x/\n/usr/lib/os-release = ID=rhel\\nVERSION_ID=\"9.4\"\\n
         /usr/lib/sysimage/rpm/\n/var/lib/rpm -> ../../usr/lib/sysimage/rpm",
    );
    let bytes = database(&[package("p"), package("q")].map(|one| cut(&one, |_| true)));
    std::fs::write(dir.path().join("var/lib/rpm/rpmdb.sqlite"), bytes).unwrap();
    let rootfs = Rootfs::open(dir.path()).unwrap();
    let packages = Packages::read(&rootfs, []);
    assert_eq!(packages.unread, []);
    let found: Vec<_> = packages.list.iter().map(|one| packages.purl(one)).collect();
    let purl = |name: &str| {
        format!(
            "pkg:rpm/redhat/{name}@1.2-3.fc40?arch=x86_64&distro=rhel-9.4&epoch=2\
             &upstream=source-1.2-3.fc40.src.rpm"
        )
    };
    assert_eq!(found, ["p", "q"].map(purl));
    let first = &packages.list[0];
    assert_eq!(
        (first.version.as_str(), first.license.as_deref()),
        ("2:1.2-3.fc40", Some("MIT AND BSD"))
    );
    assert_eq!(first.declared.to_string(), "/usr/lib/sysimage/rpm/rpmdb.sqlite");
    let owned: Vec<_> = packages.listed().map(|(path, _)| path.to_string()).collect();
    assert!(
        owned.contains(&"/usr/bin/run".to_owned()) && !owned.contains(&"/usr/bin/dir".to_owned())
    );
}

/// A hash table of Berkeley DB with these values: each in pages of its own, but for
/// the last package's number.
fn berkeley(values: &[Vec<u8>], big: bool) -> Vec<u8> {
    const PAGE: usize = 512;
    let word = |number: usize| {
        let number = number as u32;
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let short = |number: usize| {
        let number = number as u16;
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let mut pages = vec![vec![0; PAGE], vec![0; PAGE]];
    let mut items = vec![vec![1, 0, 0, 0, 0], [&[1][..], &word(values.len())].concat()];
    for (place, value) in values.iter().enumerate() {
        let chunks: Vec<&[u8]> = value.chunks(PAGE - 26).collect();
        let first = pages.len();
        items.push([&[1][..], &word(place + 1)].concat());
        items.push([&[3, 0, 0, 0][..], &word(first), &word(value.len())].concat());
        for (number, chunk) in chunks.iter().enumerate() {
            let next = if number + 1 < chunks.len() { pages.len() + 1 } else { 0 };
            let mut page = vec![0; 26];
            page[16..20].copy_from_slice(&word(next));
            page[22..24].copy_from_slice(&short(chunk.len()));
            page[25] = 7;
            page.extend_from_slice(chunk);
            page.resize(PAGE, 0);
            pages.push(page);
        }
    }
    let mut end = PAGE;
    pages[1][20..22].copy_from_slice(&short(items.len()));
    pages[1][25] = 13;
    for (place, item) in items.iter().enumerate() {
        end -= item.len();
        pages[1][end..end + item.len()].copy_from_slice(item);
        pages[1][26 + 2 * place..28 + 2 * place].copy_from_slice(&short(end));
    }
    let last = pages.len() - 1;
    for (at, number) in [(12, 0x0006_1561), (16, 9), (20, PAGE), (32, last)] {
        pages[0][at..at + 4].copy_from_slice(&word(number));
    }
    pages[0][25] = 8;
    pages.concat()
}

/// A database of rpm's own format.
fn ndb(values: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: [usize; 4]| words.map(|word| (word as u32).to_le_bytes()).concat();
    let magic = |text: &[u8; 4]| u32::from_le_bytes(*text) as usize;
    let mut slots = [words([magic(b"RpmP"), 0, 7, 1]), words([0; 4])].concat();
    let mut blobs = Vec::new();
    for (place, value) in values.iter().enumerate() {
        let at = (4096 + blobs.len()) / 16;
        slots.extend(words([magic(b"Slot"), place + 1, at, 0]));
        blobs.extend(words([magic(b"BlbS"), place + 1, 0, value.len()]));
        blobs.extend_from_slice(value);
        blobs.resize(blobs.len().next_multiple_of(16), 0);
    }
    while slots.len() < 4096 {
        slots.extend(words([magic(b"Slot"), 0, 0, 0]));
    }
    [slots, blobs].concat()
}

/// The same packages in each format.
fn formats() -> [(&'static str, Vec<u8>); 4] {
    let all = [package("p"), package("q")];
    let less: Vec<Vec<u8>> = all.iter().map(|one| cut(one, |_| true)).collect();
    [
        ("sqlite", database(&less)),
        ("ndb", ndb(&all)),
        ("berkeley", berkeley(&all, false)),
        ("berkeley, big-endian", berkeley(&all, true)),
    ]
}

#[test]
fn each_format_has_the_same_packages() {
    let expected = ["p", "q"].map(|name| cut(&package(name), |_| true));
    for (format, database) in formats() {
        assert_eq!(read_all(&database, None).unwrap(), expected, "{format}");
    }
}

#[test]
fn what_is_damaged_is_said_and_nothing_is_taken_for_a_package() {
    let said = |database: &[u8]| read_all(database, None).unwrap_err().to_string();
    assert_eq!(said(b""), "it is no database of rpm's");
    assert_eq!(said(b"SQLite format 3\0"), "it ends before its head");
    for (format, whole) in formats() {
        let mut cut = whole.clone();
        cut.truncate(whole.len() - 300);
        assert!(read_all(&cut, None).is_err(), "{format}, cut off");
    }
    let at = |format: usize, at: usize, byte: u8| {
        let mut database = formats()[format].1.clone();
        database[at] = byte;
        said(&database)
    };
    assert_eq!(at(0, 17, 7), "its page size is damaged");
    assert_eq!(at(0, 59, 2), "its version of SQLite, or its encoding of text is not supported");
    // A tree that leads to itself: the page of rows as a node of which it is the only child.
    let mut circle = formats()[0].1.clone();
    circle[4096..4108].copy_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(said(&circle), "its tree is damaged");
    assert_eq!(at(1, 4, 1), "its version of rpm's own format is not supported");
    assert_eq!(at(1, 32, 0), "its list of slots is damaged");
    assert_eq!(at(2, 20, 1), "its page size is damaged");
    assert_eq!(at(2, 24, 1), "its encryption is not supported");
    assert_eq!(at(2, 512 + 27, 0xff), "its page is damaged");
    assert_eq!(at(2, 3 * 512 + 25, 0), "its chain of pages is damaged");
}

#[test]
fn a_change_that_was_broken_off_is_not_read_over() {
    let dir = tree("/var/lib/rpm/\n/var/lib/rpm/rpmdb.sqlite-journal = x");
    std::fs::write(dir.path().join("var/lib/rpm/rpmdb.sqlite"), database(&[package("p")])).unwrap();
    let packages = Packages::read(&Rootfs::open(dir.path()).unwrap(), []);
    assert!(packages.list.is_empty());
    assert_eq!(packages.unread[0].why, "a change of it was broken off; rpm undoes it");
}

#[test]
fn a_list_of_packages_without_their_files_is_said() {
    let dir = tree("/var/lib/rpmmanifest/container-manifest-2 = glibc");
    let packages = Packages::read(&Rootfs::open(dir.path()).unwrap(), []);
    assert_eq!(
        packages.unread[0].why,
        "it names packages and none of their files: they are in no SBOM"
    );
}

proptest::proptest! {
    #[test]
    fn any_change_of_a_database_is_read_or_refused(
        format in 0_usize..4,
        changes in proptest::collection::vec((0_usize..10_000, proptest::num::u8::ANY), 1..8),
    ) {
        let mut database = formats()[format].1.clone();
        for (at, byte) in changes {
            let at = at % database.len();
            database[at] = byte;
        }
        let _ = read_all(&database, Some(&database));
    }
}
