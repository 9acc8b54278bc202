/* chmod, fchmodat, fchmodat2. */
#include "tracee.h"

#ifndef SYS_fchmodat2 /* since Linux 6.6, the same number on all machines */
#define SYS_fchmodat2 452
#endif

static void prepare(void)
{
	dir("d");
	file("chmod");
	file("d/fchmodat");
	file("d/fchmodat2");
}

static void run(void)
{
	int d = must(open("d", O_PATH));

	must(syscall(SYS_chmod, "chmod", 0600));
	must(syscall(SYS_fchmodat, d, "fchmodat", 0600));
	if (syscall(SYS_fchmodat2, d, "fchmodat2", 0600, 0) != -1 || errno != ENOSYS)
		say("write", "d/fchmodat2");
	fails(syscall(SYS_chmod, "no-chmod", 0600), ENOENT);
	say("write", "chmod");
	say("write", "d/fchmodat");
	say("used", "d");
	say("absent", "no-chmod");
}
