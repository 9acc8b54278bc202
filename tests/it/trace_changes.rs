//! What the run changes, makes, renames and deletes.

use crate::tracee::check;

#[test]
fn what_was_there_is_in_the_spec_with_its_original() {
    check("changed");
}

#[test]
fn what_the_run_made_is_not_in_the_spec() {
    check("made");
}

#[test]
fn a_link_of_the_runs_own_leads_to_an_old_file() {
    check("made-link");
}

#[test]
fn a_link_may_give_way_to_a_directory() {
    check("replaced-link");
}

#[test]
fn a_renamed_directory_counts_under_its_old_name() {
    check("renamed-directory");
}

#[test]
fn directories_that_the_run_needs_are_in_the_spec() {
    check("directories");
}
