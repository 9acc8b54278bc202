/* access, faccessat, faccessat2: what `[ -x FILE ]` and `command -v` do. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("access");
	file("d/faccessat");
	file("d/faccessat2");
	file("target");
	must(symlink("target", "link"));
}

static void run(void)
{
	int d = must(open("d", O_PATH));

	must(syscall(SYS_access, "access", R_OK));
	must(syscall(SYS_access, "link", F_OK));
	must(syscall(SYS_faccessat, d, "faccessat", R_OK));
	must(syscall(SYS_faccessat2, d, "faccessat2", R_OK, AT_EACCESS));
	fails(syscall(SYS_access, "no-access", F_OK), ENOENT);
	fails(syscall(SYS_faccessat2, d, "no-faccessat2", F_OK, 0), ENOENT);
	say("inspect", "access");
	say("inspect", "target");
	say("link", "link");
	say("inspect", "d/faccessat");
	say("inspect", "d/faccessat2");
	say("used", "d");
	say("absent", "no-access");
	say("absent", "d/no-faccessat2");
}
