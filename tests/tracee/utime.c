/* utime, utimes, futimesat, utimensat. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("utime");
	file("utimes");
	file("d/futimesat");
	file("d/utimensat");
	file("target");
	must(symlink("target", "link"));
}

static void run(void)
{
	int d = must(open("d", O_PATH));

	must(syscall(SYS_utime, "utime", NULL));
	must(syscall(SYS_utimes, "utimes", NULL));
	must(syscall(SYS_futimesat, d, "futimesat", NULL));
	must(syscall(SYS_utimensat, d, "utimensat", NULL, 0));
	must(syscall(SYS_utimensat, AT_FDCWD, "link", NULL, AT_SYMLINK_NOFOLLOW));
	fails(syscall(SYS_utime, "no-utime", NULL), ENOENT);
	say("write", "utime");
	say("write", "utimes");
	say("write", "d/futimesat");
	say("write", "d/utimensat");
	say("write", "link");
	say("used", "d");
	say("absent", "target");
	say("absent", "no-utime");
}
