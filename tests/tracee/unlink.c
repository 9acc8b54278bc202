/* unlink, unlinkat, rmdir: what is deleted was there, and is kept. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("unlink");
	file("d/unlinkat");
	dir("rmdir");
	dir("d/unlinkat-dir");
	file("target");
	must(symlink("target", "link"));
}

static void run(void)
{
	int d = must(open("d", O_PATH));

	must(syscall(SYS_unlink, "unlink"));
	must(syscall(SYS_unlink, "link"));
	must(syscall(SYS_unlinkat, d, "unlinkat", 0));
	must(syscall(SYS_unlinkat, d, "unlinkat-dir", AT_REMOVEDIR));
	must(syscall(SYS_rmdir, "rmdir"));
	fails(syscall(SYS_unlink, "no-unlink"), ENOENT);
	fails(syscall(SYS_rmdir, "no-rmdir"), ENOENT);
	say("deleted", "unlink");
	say("deleted", "link");
	say("deleted", "d/unlinkat");
	say("deleted", "d/unlinkat-dir");
	say("deleted", "rmdir");
	say("parent", ".");
	say("parent", "d");
	say("absent", "target");
	say("absent", "no-unlink");
	say("absent", "no-rmdir");
}
