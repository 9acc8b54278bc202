/* SECCOMP_MODE_STRICT, which a program under a filter cannot enter. */
#include "tracee.h"
#include <linux/seccomp.h>
#include <sys/prctl.h>

static void prepare(void)
{
	file("file");
}

static void run(void)
{
	must(open("file", O_RDONLY));
	say("read", "file");
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1)
		say("unseen", "seccomp-strict");
	syscall(SYS_exit, 0);
}
