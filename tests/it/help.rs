//! What the tools say of themselves.

use crate::sandbox::Sandbox;

#[test]
fn help_has_examples() {
    let sandbox = Sandbox::new();
    for args in [
        &["--help"][..],
        &["bundle", "--help"],
        &["image", "--help"],
        &["run", "--help"],
        &["closure", "--help"],
    ] {
        let help = sandbox.run("vzbuild", args).success().stdout();
        assert!(help.contains("Examples:"), "vzbuild {args:?}:\n{help}");
    }
    for tool in ["smith-strace", "vzpush", "vzmaster"] {
        let help = sandbox.run(tool, ["--help"]).success().stdout();
        assert!(help.contains("Examples:"), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let sandbox = Sandbox::new();
    sandbox.run("vzbuild", ["bunlde"]).status(2).says("a similar subcommand exists: 'bundle'");
    sandbox.run("vzbuild", ["bundle"]).status(2).says("<SPEC>");
}

#[test]
fn manual_pages_and_completions_are_complete() {
    let sandbox = Sandbox::new();
    sandbox.run("vzbuild", ["manual", "share"]).success();
    for (file, text) in [
        ("share/man/man1/smith-strace.1", "originals"),
        ("share/man/man1/vzbuild.1", "Examples:"),
        ("share/man/man1/vzmaster-deploy.1", "prune"),
        ("share/man/man1/vzbuild-bundle.1", "volume"),
        ("share/man/man1/vzbuild-image.1", "SPEC|BUNDLE"),
        ("share/man/man1/vzpush.1", "inside ssh"),
        ("share/man/man5/vz-spec.5", "one absolute path a line"),
        ("share/bash-completion/completions/vzbuild", "--allow-missing"),
        ("share/zsh/site-functions/_smith-strace", "--isolate"),
        ("share/fish/vendor_completions.d/vzbuild.fish", "bundle"),
    ] {
        assert!(sandbox.lines(file).join("\n").contains(text), "{file} lacks `{text}`");
    }
    assert!(!sandbox.path("share/man/man1/vzbuild-init.1").exists(), "hidden verbs stay hidden");
}

#[test]
fn an_output_directory_that_cannot_be_made_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    sandbox
        .run("vzbuild", ["manual", "file/share"])
        .status(3)
        .says("vzbuild: error: cannot make `file/share/man/man1`")
        .says("caused by: Not a directory");
}
