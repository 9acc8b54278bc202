//! The search of musl's loader, `load_library` in `dynlink.c`.

use super::{Chain, Loader, Opened, Search, inside};
use crate::closure::Cause;

/// Libraries that are musl's loader itself, whatever follows their names.
const OWN: [&[u8]; 7] =
    [b"libc.", b"libpthread.", b"librt.", b"libm.", b"libdl.", b"libutil.", b"libxnet."];

/// Finds the library `soname`, a name without a slash.
pub(super) fn search(loader: &Loader<'_>, chain: &Chain<'_>, soname: &[u8]) -> Search {
    if OWN.iter().any(|name| soname.starts_with(name)) {
        return Search::Interpreter;
    }
    let Some(program) = chain.program() else { return Search::Interpreter };
    let mut directories = Vec::new();
    if let Some(list) = chain.library_path {
        directories.extend(chain.directories(0, list, b":\n"));
    }
    for index in chain.indices() {
        let elf = chain.elf(index);
        // musl knows no difference between the two, and passes both on.
        if let Some(list) = elf.and_then(|e| e.runpath.as_deref().or(e.rpath.as_deref())) {
            directories.extend(chain.directories(index, list, b":\n"));
        }
    }
    directories.extend(chain.config.system.iter().cloned());
    for directory in &directories {
        match loader.open(&inside(directory, soname), program) {
            Opened::Fits(hit) => return Search::Found(hit, Vec::new()),
            // It takes the first file of this name, and fails when that is no good.
            Opened::Fatal(cause) | Opened::Passed(Some(cause @ Cause::OtherAbi { .. })) => {
                return Search::Failed(cause);
            }
            Opened::Passed(_) => {}
        }
    }
    let searched = directories.into_iter().map(Vec::into_boxed_slice).collect();
    Search::Failed(Cause::NotFound { searched })
}
