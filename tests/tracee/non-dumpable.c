/* A program that lets nobody read its memory (PR_SET_DUMPABLE 0). */
#include "tracee.h"
#include <sys/prctl.h>

static void prepare(void)
{
	file("before");
	file("hidden");
	file("after");
}

static void run(void)
{
	must(open("before", O_RDONLY));
	must(prctl(PR_SET_DUMPABLE, 0));
	must(open("hidden", O_RDONLY));
	must(prctl(PR_SET_DUMPABLE, 1));
	must(open("after", O_RDONLY));
	say("read", "before");
	say("mapped", "hidden");
	say("read", "after");
}
