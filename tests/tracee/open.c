/* open, creat, openat, openat2: reading, and files that are not there. */
#include "tracee.h"
#include <linux/openat2.h>

static void prepare(void)
{
	file("open");
	dir("d");
	file("d/openat");
	file("d/openat2");
	file("d/path");
	file("d/creat");
	file("untouched");
}

static void run(void)
{
	struct open_how how = { .flags = O_RDONLY };
	int d = must(syscall(SYS_open, "d", O_RDONLY | O_DIRECTORY));

	must(syscall(SYS_open, "open", O_RDONLY));
	must(syscall(SYS_openat, d, "openat", O_RDONLY));
	must(syscall(SYS_openat2, d, "openat2", &how, sizeof how));
	must(syscall(SYS_openat, d, "path", O_PATH));
	must(syscall(SYS_creat, "d/creat", 0644));
	fails(syscall(SYS_open, "no-open", O_RDONLY), ENOENT);
	fails(syscall(SYS_openat, d, "no-openat", O_RDONLY), ENOENT);
	fails(syscall(SYS_openat2, d, "no-openat2", &how, sizeof how), ENOENT);
	say("read", "open");
	say("read", "d/openat");
	say("read", "d/openat2");
	say("used", "d");
	say("used", "d/path");
	say("changed", "d/creat");
	say("absent", "no-open");
	say("absent", "d/no-openat");
	say("absent", "d/no-openat2");
	say("absent", "untouched");
}
