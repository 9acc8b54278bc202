/* chown, lchown, fchownat, to the owner they have. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("chown");
	file("target");
	must(symlink("target", "lchown"));
	file("d/fchownat");
#ifdef __i386__
	file("chown32");
	file("lchown32");
#endif
}

static void run(void)
{
	int d = must(open("d", O_PATH));

	must(syscall(SYS_chown, "chown", -1, -1));
	must(syscall(SYS_lchown, "lchown", -1, -1));
	must(syscall(SYS_fchownat, d, "fchownat", -1, -1, 0));
	fails(syscall(SYS_chown, "no-chown", -1, -1), ENOENT);
#ifdef __i386__
	must(syscall(SYS_chown32, "chown32", -1, -1));
	must(syscall(SYS_lchown32, "lchown32", -1, -1));
	say("write", "chown32");
	say("write", "lchown32");
#endif
	say("write", "chown");
	say("write", "lchown");
	say("write", "d/fchownat");
	say("used", "d");
	say("absent", "target");
	say("absent", "no-chown");
}
