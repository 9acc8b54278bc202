/* statfs. */
#include "tracee.h"

static void prepare(void)
{
	file("statfs");
	file("statfs64");
}

static void run(void)
{
	char buffer[1024];

	must(syscall(SYS_statfs, "statfs", buffer));
	fails(syscall(SYS_statfs, "no-statfs", buffer), ENOENT);
#ifdef __i386__
	must(syscall(SYS_statfs64, "statfs64", 84L, buffer));
	say("inspect", "statfs64");
#endif
	say("inspect", "statfs");
	say("absent", "no-statfs");
}
