/* x32 call numbers: most kernels have none (ENOSYS); others open the file. */
#include "tracee.h"

static void prepare(void)
{
	file("file");
	file("then");
}

static void run(void)
{
	long fd = syscall(0x40000000 | SYS_openat, AT_FDCWD, "file", O_RDONLY);

	if (fd == -1 && errno != ENOSYS)
		give_up("x32 openat");
	must(open("then", O_RDONLY));
	/* What was there and then failed may be in the spec. */
	say(fd != -1 ? "read" : "optional", "file");
	say("read", "then");
}
