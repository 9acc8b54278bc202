//! From the bytes of a call to the path that the kernel opened.

use crate::tracee::{Build, check, check_built};

#[test]
fn directory_descriptors_0_to_2_are_directories() {
    check("dirfds");
}

#[test]
fn a_descriptor_may_name_another_directory_later() {
    check("reused-dirfd");
}

#[test]
fn a_directory_descriptor_counts_as_the_kernel_reads_it() {
    check("dirfd-shapes");
}

#[test]
fn descriptors_may_change_behind_a_tasks_back() {
    check("shared-descriptors");
}

#[test]
fn what_has_no_name_is_not_in_the_spec() {
    check("unnamed");
}

#[test]
fn the_working_directory_is_shared_as_the_kernel_shares_it() {
    check("chdir-in-thread");
}

#[test]
fn dotdot_is_resolved_as_the_kernel_does() {
    check("dotdot");
}

#[test]
fn every_link_on_the_way_is_used() {
    check("links");
}

#[test]
fn names_are_bytes() {
    check("odd-names");
}

#[test]
fn a_path_may_end_where_memory_ends() {
    check("page-end");
}

#[test]
fn openat2_may_have_a_root_of_its_own() {
    check("resolve");
}

#[test]
fn a_directory_may_be_called_deleted() {
    check("deleted-names");
}

#[test]
fn names_that_begin_alike_are_different() {
    check("prefixes");
}

#[test]
fn a_static_program_is_traced() {
    check_built("open", Build::Static);
    check_built("exec", Build::Static);
}

#[test]
fn pseudo_files_are_told_by_their_file_system() {
    check("pseudo");
}

#[test]
fn paths_after_chroot_begin_at_the_traced_root() {
    check("chroot");
    check_built("chroot", Build::Static);
}

#[test]
fn paths_below_the_runs_own_mounts_are_mapped_or_said() {
    check("mounts");
}
