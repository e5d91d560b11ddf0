//! The threads of the server: some for publishers and for what is written to viewers piece by piece, and some for everything else.
//!
//! Each kind has a runtime of its own, with its own queue of tasks and of events. Within one, ten thousand viewers who connect or hang up in
//! one moment all come before the next picture; between two, the system's scheduler sees to it that both have their share of a processor.
//!
//! A single thread does both. On a single processor two would take turns in the middle of what the other does, and so the last of many
//! viewers would get their pieces later.
//!
//! Not here: what runs where, which [`Server`](lhls::server::Server) decides.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtimes; when this is dropped, what still runs on them is cut off.
#[derive(Debug)]
pub(crate) struct Threads {
    /// For everything else; its caller blocks on it.
    pub(crate) others: Runtime,
    media: Option<Runtime>,
}

impl Threads {
    /// So many threads of each kind; one for each processor if not given.
    ///
    /// # Errors
    /// When the system gives no threads or no event queue.
    pub(crate) fn start(count: Option<usize>) -> io::Result<Self> {
        let count = count.unwrap_or_else(processors);
        Ok(Self {
            others: runtime(count)?,
            media: (count > 1).then(|| runtime(count)).transpose()?,
        })
    }

    /// Where publishers' bytes and viewers' pieces are to be handled, if not where everything else is.
    pub(crate) fn media(&self) -> Option<&Handle> {
        self.media.as_ref().map(Runtime::handle)
    }
}

/// A runtime for so many threads. With one there is nobody to share work with, and the runtime made for that spends less on each wake-up.
///
/// # Errors
/// When the system gives no threads or no event queue.
pub(crate) fn runtime(count: usize) -> io::Result<Runtime> {
    let mut builder = match count {
        1 => Builder::new_current_thread(),
        count => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(count);
            builder
        }
    };
    builder
        .enable_all()
        .global_queue_interval(WOKEN_FIRST)
        .build()
}

/// How many processors the process may use.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get())
}

/// After how many tasks of its own a thread looks for those that another runtime has woken: those who wait for a part come before those
/// who have got theirs and ask for the next.
const WOKEN_FIRST: u32 = 1;
