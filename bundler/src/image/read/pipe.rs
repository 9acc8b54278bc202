//! A blob that is read, checked and decompressed by a thread of its own, since
//! that takes about as long as making the files does.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::blob;

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;
/// Chunks that the thread may be ahead.
const AHEAD: usize = 6;

/// The decompressed bytes of a blob, as they come.
#[derive(Debug)]
pub(super) struct Pipe<'scope> {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spare: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    raw: Arc<AtomicU64>,
    _thread: ScopedJoinHandle<'scope, ()>,
}

/// Counts what is read of a blob.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<'scope> Pipe<'scope> {
    /// Starts to read `blob`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        blob: impl Read + Send + 'static,
    ) -> io::Result<Pipe<'scope>> {
        let raw = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&raw);
        let (chunks_in, chunks) = sync_channel(AHEAD);
        let (spare, spare_out) = channel();
        let work = move || {
            let sent = pump(Counted { inner: blob, count }, &chunks_in, &spare_out);
            if let Err(error) = sent {
                // Where nobody listens any more, there was an earlier error.
                let _ = chunks_in.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, work)?;
        Ok(Pipe { chunks, spare, chunk: Vec::new(), at: 0, raw, _thread: thread })
    }

    /// Bytes that were read of the blob as it lies in the image since the last call.
    pub(super) fn take_count(&self) -> u64 {
        self.raw.swap(0, Ordering::Relaxed)
    }
}

fn pump(
    raw: impl Read + Send + 'static,
    chunks: &SyncSender<io::Result<Vec<u8>>>,
    spare: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut content = blob::decompressed(raw)?;
    loop {
        let mut chunk = spare.try_recv().unwrap_or_default();
        chunk.clear();
        content.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        // An empty chunk says that this was the end.
        let end = chunk.is_empty();
        if chunks.send(Ok(chunk)).is_err() || end {
            return Ok(());
        }
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.chunk.len() {
            let used = std::mem::take(&mut self.chunk);
            // The thread may have ended.
            let _ = self.spare.send(used);
            let gone = || io::Error::other("the reading thread ended early");
            self.chunk = self.chunks.recv().map_err(|_| gone())??;
            self.at = 0;
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = io::Read::read(&mut { rest }, buf)?;
        self.at += count;
        Ok(count)
    }
}
