//! A database with the one table that scanners read.

use super::{HEAD, INTERIOR, LEAF, MAGIC, local};

const PAGE: usize = 4096;
const SCHEMA: &str = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)";
/// A version that has all that is used here: 3.7.0, the first with lengths in the head.
const VERSION: u32 = 3_007_000;

/// Pages in their order, of which the first one is written last.
struct Pages(Vec<Vec<u8>>);

impl Pages {
    /// Adds a page and returns its number.
    fn add(&mut self, mut page: Vec<u8>) -> u32 {
        page.resize(PAGE, 0);
        self.0.push(page);
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// The cell of a row; what does not fit goes into pages of its own.
    fn cell(&mut self, number: u64, row: &[u8]) -> Vec<u8> {
        let (start, rest) = row.split_at(local(row.len(), PAGE));
        let mut cell = [varint(row.len() as u64), varint(number), start.to_vec()].concat();
        let mut next = 0;
        // From the last one to the first, since each has the number of the next.
        for part in rest.chunks(PAGE - 4).rev() {
            next = self.add([&u32::to_be_bytes(next)[..], part].concat());
        }
        if !rest.is_empty() {
            cell.extend(next.to_be_bytes());
        }
        cell
    }
}

/// Returns a database with these packages' headers, in this order.
pub(in super::super) fn database(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut pages = Pages(vec![Vec::new()]);
    let mut level = Vec::new();
    let mut cells = Vec::new();
    let mut free = PAGE - 8;
    let mut last = 0;
    for (number, header) in (1..).zip(headers) {
        let cell = pages.cell(number, &row(header));
        if cell.len() + 2 > free {
            level.push((pages.add(page(LEAF, 0, None, &cells)), last));
            cells.clear();
            free = PAGE - 8;
        }
        free -= cell.len() + 2;
        cells.push(cell);
        last = number;
    }
    level.push((pages.add(page(LEAF, 0, None, &cells)), last));
    while level.len() > 1 {
        // A child takes at most 4 + 9 bytes and a pointer.
        let nodes = level.chunks((PAGE - 12) / 15).map(|children| {
            let (&(right, last), others) = children.split_last().unwrap_or((&(0, 0), &[]));
            let cell =
                |&(child, last): &(u32, u64)| [child.to_be_bytes().to_vec(), varint(last)].concat();
            let cells: Vec<Vec<u8>> = others.iter().map(cell).collect();
            (pages.add(page(INTERIOR, 0, Some(right), &cells)), last)
        });
        level = nodes.collect();
    }
    let root = level.first().map_or(0, |(root, _)| *root);
    let table = [b"table".as_slice(), b"Packages", b"Packages"];
    let schema = [
        // The size of this list of types itself, three texts, a number of four bytes, a text.
        vec![7, 23, 29, 29, 4],
        varint(13 + 2 * SCHEMA.len() as u64),
        table.concat(),
        root.to_be_bytes().to_vec(),
        SCHEMA.as_bytes().to_vec(),
    ];
    let cell = pages.cell(1, &schema.concat());
    let mut first = page(LEAF, HEAD, None, &[cell]);
    let head = head(u32::try_from(pages.0.len()).unwrap_or(u32::MAX));
    first.splice(..HEAD, head);
    if let Some(page) = pages.0.first_mut() {
        *page = first;
    }
    pages.0.concat()
}

/// A row: the types of its columns (the number of the row, which is not stored in it, and
/// the bytes), then their values.
fn row(blob: &[u8]) -> Vec<u8> {
    let kind = varint(12 + 2 * blob.len() as u64);
    let length = u8::try_from(kind.len() + 2).unwrap_or_default();
    [&[length, 0][..], &kind, blob].concat()
}

/// A page of a tree; the first one has so many bytes `before` it.
fn page(kind: u8, before: usize, right: Option<u32>, cells: &[Vec<u8>]) -> Vec<u8> {
    let short = |number: usize| u16::try_from(number).unwrap_or_default().to_be_bytes();
    let content: usize = cells.iter().map(Vec::len).sum();
    let start = PAGE - content;
    let mut page = vec![0; before];
    page.extend([kind, 0, 0]);
    page.extend(short(cells.len()));
    page.extend(short(start));
    page.push(0);
    page.extend(right.iter().flat_map(|right| right.to_be_bytes()));
    let mut at = start;
    for cell in cells {
        page.extend(short(at));
        at += cell.len();
    }
    page.resize(start, 0);
    page.extend(cells.concat());
    page
}

/// The head of a database of so many pages (section 1.3 of the format).
fn head(pages: u32) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(u16::try_from(PAGE).unwrap_or_default().to_be_bytes());
    // Journal, no reserved bytes, and three fixed fractions.
    head.extend([1, 1, 0, 64, 32, 32]);
    // Changes, pages, no free ones, and the schema's cookie and format.
    let words = [1, pages, 0, 0, 1, 4, 0, 0, 1, 0, 0, 0];
    head.extend(words.into_iter().flat_map(u32::to_be_bytes));
    head.resize(HEAD - 8, 0);
    head.extend([1, VERSION].into_iter().flat_map(u32::to_be_bytes));
    head
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = vec![(number & 0x7f) as u8];
    let mut rest = number >> 7;
    while rest > 0 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.reverse();
    bytes
}
