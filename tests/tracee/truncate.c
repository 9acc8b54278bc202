/* truncate, ftruncate: the content before it is kept. */
#include "tracee.h"

static void prepare(void)
{
	file("truncate");
	file("ftruncate");
	file("opened");
	file("target");
	must(symlink("target", "link"));
#ifdef __i386__
	file("truncate64");
#endif
}

static void run(void)
{
	int fd = must(open("ftruncate", O_RDWR));

	must(syscall(SYS_truncate, "truncate", 3L));
	must(syscall(SYS_truncate, "link", 0L));
	must(syscall(SYS_ftruncate, fd, 0L));
	must(open("opened", O_WRONLY | O_TRUNC));
	fails(syscall(SYS_truncate, "no-truncate", 0L), ENOENT);
#ifdef __i386__
	must(syscall(SYS_truncate64, "truncate64", 0L, 0L));
	say("changed", "truncate64");
#endif
	say("changed", "truncate");
	say("changed", "ftruncate");
	say("changed", "opened");
	say("changed", "target");
	say("link", "link");
	say("absent", "no-truncate");
}
