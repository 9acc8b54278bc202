//! Writes VCDIFF.

use super::code::{self, AddressCache, Kind, put_varint};
use super::search::{From, Match, Search, Source};
use super::{ADLER32, APPLICATION, MAGIC, SOURCE, WINDOW};
use crate::Effort;

/// A run of one byte shorter than this goes with the bytes around it.
const SHORTEST_RUN: usize = 8;

/// One step of building a window.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add { start: usize, len: usize },
    Run { byte: u8, len: usize },
    Copy { from: From, len: usize },
}

/// Encodes `target` against `source`. An `application` header that is not empty
/// goes into the file; stock `xdelta3` takes one without slashes and ignores it.
///
/// Takes about 9 bytes of memory for each byte of the source, and 80 MiB at most
/// besides source and target.
pub fn encode(source: &[u8], target: &[u8], effort: Effort, application: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    if application.is_empty() {
        out.push(0);
    } else {
        out.push(APPLICATION);
        put_varint(&mut out, application.len() as u64);
        out.extend_from_slice(application);
    }
    let source = Source::new(source);
    let mut alignments = [0; 4];
    let mut start = 0;
    loop {
        let end = target.len().min(start + WINDOW);
        let search = Search::new(&source, target, (start, end), effort, &mut alignments);
        encode_window(search, target, (start, end), &mut out);
        if end == target.len() {
            return out;
        }
        start = end;
    }
}

fn encode_window(
    mut search: Search,
    target: &[u8],
    (start, end): (usize, usize),
    out: &mut Vec<u8>,
) {
    let steps = plan(&mut search, target, (start, end));
    let segment = search.used.unwrap_or((0, 0));
    let segment_len = (segment.1 - segment.0) as u64;
    let mut sections = Sections::new();
    let mut here = segment_len;
    for step in steps {
        let len = match step {
            Step::Add { start, len } => {
                sections.data.extend_from_slice(&target[start..start + len]);
                sections.push(Kind::Add, len);
                len
            }
            Step::Run { byte, len } => {
                sections.data.push(byte);
                sections.push(Kind::Run, len);
                len
            }
            Step::Copy { from, len } => {
                let address = match from {
                    From::Source(offset) => (offset - segment.0) as u64,
                    From::Target(offset) => segment_len + (offset - start) as u64,
                };
                let mode = sections.cache.encode(address, here, &mut sections.addresses);
                sections.push(Kind::Copy(mode), len);
                len
            }
        };
        here += len as u64;
    }
    sections.flush();

    let mut head = Vec::new();
    put_varint(&mut head, (end - start) as u64);
    head.push(0); // Delta_Indicator: no section is compressed
    for section in [&sections.data, &sections.instructions, &sections.addresses] {
        put_varint(&mut head, section.len() as u64);
    }
    head.extend_from_slice(&adler2::adler32_slice(&target[start..end]).to_be_bytes());
    match segment_len {
        0 => out.push(ADLER32),
        _ => {
            out.push(SOURCE | ADLER32);
            put_varint(out, segment_len);
            put_varint(out, segment.0 as u64);
        }
    }
    let rest = head.len() + sections.data.len() + sections.instructions.len();
    put_varint(out, (rest + sections.addresses.len()) as u64);
    for part in [head, sections.data, sections.instructions, sections.addresses] {
        out.extend_from_slice(&part);
    }
}

/// Chooses the steps: the best copy at each position, unless the next position has a better one.
fn plan(search: &mut Search, target: &[u8], (start, end): (usize, usize)) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut position, mut added) = (start, start);
    let mut ahead: Option<Option<Match>> = None;
    while position < end {
        let found = ahead.take().unwrap_or_else(|| search.best(position));
        let run = run_len(&target[position..end]);
        if run >= SHORTEST_RUN && found.is_none_or(|m| m.gain < run as i64 - 3) {
            push_add(&mut steps, added, position);
            steps.push(Step::Run { byte: target[position], len: run });
            position += run;
            added = position;
            continue;
        }
        let Some(mut copy) = found else {
            position += 1;
            continue;
        };
        if copy.len < 256 && position + 1 < end {
            let next = search.best(position + 1);
            if next.is_some_and(|n| n.gain > copy.gain + 1) {
                ahead = Some(next);
                position += 1;
                continue;
            }
        }
        let back = search.reaches_back(&copy, position, position - added);
        position -= back;
        copy.len += back;
        copy.from = match copy.from {
            From::Source(offset) => From::Source(offset - back),
            From::Target(offset) => From::Target(offset - back),
        };
        push_add(&mut steps, added, position);
        search.took(&copy, position);
        steps.push(Step::Copy { from: copy.from, len: copy.len });
        position += copy.len;
        added = position;
    }
    push_add(&mut steps, added, end);
    steps
}

fn push_add(steps: &mut Vec<Step>, start: usize, end: usize) {
    if end > start {
        steps.push(Step::Add { start, len: end - start });
    }
}

fn run_len(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(first) => bytes.iter().take_while(|b| *b == first).count(),
        None => 0,
    }
}

/// The three sections of a window while they grow.
struct Sections {
    data: Vec<u8>,
    instructions: Vec<u8>,
    addresses: Vec<u8>,
    cache: AddressCache,
    /// Waits for an instruction that it can share a code with.
    pending: Option<(Kind, usize)>,
}

impl Sections {
    fn new() -> Self {
        Sections {
            data: Vec::new(),
            instructions: Vec::new(),
            addresses: Vec::new(),
            cache: AddressCache::new(),
            pending: None,
        }
    }

    fn push(&mut self, kind: Kind, size: usize) {
        let now = (kind, size);
        if let Some(code) = self.pending.and_then(|before| code::double(before, now)) {
            self.instructions.push(code);
            self.pending = None;
            return;
        }
        self.flush();
        self.pending = Some(now);
    }

    fn flush(&mut self) {
        if let Some((kind, size)) = self.pending.take() {
            let (code, size_follows) = code::single(kind, size);
            self.instructions.push(code);
            if size_follows {
                put_varint(&mut self.instructions, size as u64);
            }
        }
    }
}
