//! Every call that names a file, one tracee a family: as x86-64 and as i386.

use crate::tracee::check;

#[test]
fn opening_is_a_use() {
    check("open");
}

#[test]
fn looking_is_a_use() {
    check("stat");
    check("access");
    check("statfs");
}

#[test]
fn reading_a_link_uses_the_link_only() {
    check("readlink");
}

#[test]
fn entering_a_directory_is_a_use_and_moves_relative_paths() {
    check("chdir");
}

#[test]
fn extended_attributes_are_uses() {
    check("xattr");
}

#[test]
fn truncating_keeps_the_original() {
    check("truncate");
}

#[test]
fn times_modes_and_owners_are_uses() {
    check("utime");
    check("chmod");
    check("chown");
}

#[test]
fn deleting_is_a_use_and_keeps_the_original() {
    check("unlink");
}

#[test]
fn renaming_uses_the_old_name_and_makes_the_new() {
    check("rename");
}

#[test]
fn linking_uses_the_old_name_and_makes_the_new() {
    check("link");
}

#[test]
fn what_is_made_stays_out_and_its_parent_is_needed() {
    check("mkdir");
}

#[test]
fn watching_is_a_use() {
    check("inotify");
}

#[test]
fn file_handles_are_uses() {
    check("handle");
}

#[test]
fn unix_sockets_are_uses() {
    check("socket");
}

#[test]
fn datagrams_use_their_socket() {
    check("datagram");
}

#[test]
fn listing_uses_the_directory_only() {
    check("getdents");
}
