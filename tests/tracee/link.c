/* link, linkat, symlink, symlinkat: the old name is used, the new one is made. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("link");
	file("d/linkat");
	file("followed");
	must(symlink("followed", "follow"));
	file("not-followed");
	must(symlink("not-followed", "not-follow"));
	file("by-descriptor");
	file("target");
}

static void run(void)
{
	int d = must(open("d", O_PATH));
	char descriptor[64];

	must(syscall(SYS_link, "link", "made-link"));
	must(syscall(SYS_linkat, d, "linkat", d, "made-linkat", 0));
	must(syscall(SYS_linkat, AT_FDCWD, "follow", d, "made-follow", AT_SYMLINK_FOLLOW));
	must(syscall(SYS_linkat, AT_FDCWD, "not-follow", d, "made-not-follow", 0));
	must(syscall(SYS_symlink, "target", "made-symlink"));
	must(syscall(SYS_symlinkat, "../target", d, "made-symlinkat"));
	fails(syscall(SYS_link, "no-link", "made-no-link"), ENOENT);
	sprintf(descriptor, "/proc/self/fd/%ld", must(open("by-descriptor", O_RDONLY)));
	must(linkat(AT_FDCWD, descriptor, d, "made-by-descriptor", AT_SYMLINK_FOLLOW));
	say("used", "link");
	say("used", "d/linkat");
	say("link", "follow");
	say("used", "followed");
	say("used", "not-follow");
	say("used", "by-descriptor");
	say("parent", ".");
	say("parent", "d");
	say("made", "made-link");
	say("made", "d/made-linkat");
	say("made", "d/made-follow");
	say("made", "d/made-not-follow");
	say("made", "d/made-by-descriptor");
	say("made", "made-symlink");
	say("made", "d/made-symlinkat");
	say("absent", "not-followed");
	say("absent", "target");
	say("absent", "no-link");
}
