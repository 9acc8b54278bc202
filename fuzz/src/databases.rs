//! Databases of packages.

use bundler::packages::rpm::{DatabaseError, Input, cut, database, headers};

/// Most bytes of headers that are held.
const MOST: usize = 16 << 20;

/// The headers of a database and the log beside it, each cut down.
fn read(database: &[u8], log: Option<&[u8]>) -> (Vec<Vec<u8>>, Result<(), DatabaseError>) {
    let input = |bytes| Input::<[u8]> { source: bytes, length: <[u8]>::len(bytes) as u64 };
    let (mut found, mut bytes) = (Vec::new(), 0);
    let done = headers(input(database), log.map(input), &mut |header| {
        let header = header.cut(|path| path.len() % 2 == 0);
        bytes += header.len();
        found.push(header);
        if bytes > MOST { Err(DatabaseError::TooLarge("sum")) } else { Ok(()) }
    });
    (found, done)
}

/// Any database is read or refused; what is read of it can be written, and is read again
/// as it was. The first two bytes are the length of the database, the rest is its log.
pub fn rpm(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (whole, log) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let (found, _) = read(whole, Some(log));
    let (again, done) = read(&database(&found), None);
    done.expect("what was written");
    let expected: Vec<_> =
        found.iter().map(|header| cut(header, |path| path.len() % 2 == 0)).collect();
    assert_eq!(again, expected);
}
