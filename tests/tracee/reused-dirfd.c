/* A descriptor that named one directory often names another one then. */
#include "tracee.h"

static void prepare(void)
{
	dir("first");
	dir("second");
	file("first/used");
	file("first/other");
	file("second/other");
}

static void run(void)
{
	int first = must(open("first", O_PATH));
	int second = must(open("second", O_PATH));
	struct stat found;

	for (int i = 0; i < 10; i++)
		must(fstatat(first, "used", &found, 0));
	must(dup2(second, first));
	must(fstatat(first, "other", &found, 0));
	must(close(first));
	fails(fstatat(first, "used", &found, 0), EBADF);
	say("used", "first/used");
	say("used", "second/other");
	say("inspect", "first");
	say("inspect", "second");
	say("absent", "first/other");
}
