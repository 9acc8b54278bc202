//! What an unpacked tree lacks of its image: counted, and named up to a limit.

use crate::path::RootPath;
use crate::tree::{Lost, Unkept};

/// How many are named, of devices and of all else.
const NAMED: usize = 1000;

/// What was lost so far.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Apart, since a device may be asked for by other names.
    devices: Vec<Unkept>,
    others: Vec<Unkept>,
    count: u64,
    owners: u64,
}

impl Losses {
    pub(super) fn add(&mut self, path: &RootPath, what: Lost) {
        self.count += 1;
        self.owners += u64::from(what == Lost::Owner);
        let list = match what {
            Lost::Device => &mut self.devices,
            _ => &mut self.others,
        };
        if list.len() < NAMED {
            list.push(Unkept { path: path.clone(), what });
        }
    }

    /// Whether the device at `path` could not be made.
    pub(super) fn has_device(&self, path: &RootPath) -> bool {
        self.devices.iter().any(|lost| lost.path == *path)
    }

    /// How much was lost, and how many owners of that.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.count, self.owners)
    }

    /// What is named, sorted.
    pub(super) fn into_named(mut self) -> Vec<Unkept> {
        self.devices.append(&mut self.others);
        self.devices.sort();
        self.devices
    }
}
