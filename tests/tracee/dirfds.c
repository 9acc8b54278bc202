/* Paths relative to directories that are open as descriptors 0, 1 and 2. */
#include "tracee.h"

static void prepare(void)
{
	char name[] = "0";

	for (; *name < '3'; ++*name) {
		char inside[] = "0/file-0";

		dir(name);
		inside[0] = inside[7] = *name;
		file(inside);
	}
	file("high");
}

static void run(void)
{
	int saved = must(fcntl(1, F_DUPFD_CLOEXEC, 100));
	int errors = must(fcntl(2, F_DUPFD_CLOEXEC, 100));

	must(close(0));
	must(close(1));
	must(close(2));
	if (open("0", O_PATH) != 0 || open("1", O_RDONLY) != 1 || open("2", O_RDONLY) != 2)
		_exit(97);
	if (openat(0, "file-0", O_RDONLY) == -1 || openat(1, "file-1", O_RDONLY) == -1 ||
	    openat(2, "file-2", O_RDONLY) == -1 || openat(0, "../high", O_RDONLY) == -1)
		_exit(96);
	must(dup2(errors, 2));
	say_to = saved;
	say("used", "0");
	say("used", "1");
	say("used", "2");
	say("read", "0/file-0");
	say("read", "1/file-1");
	say("read", "2/file-2");
	say("read", "high");
}
