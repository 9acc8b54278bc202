/* getdents: a listed directory is used, what it lists is not. */
#include "tracee.h"

static void prepare(void)
{
	dir("listed");
	file("listed/one");
	dir("listed/empty");
	dir("opened");
	dir("old");
	file("old/one");
}

static void run(void)
{
	char buffer[4096];
	int fd = must(open("listed", O_RDONLY | O_DIRECTORY));

	must(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
	must(open("opened", O_RDONLY | O_DIRECTORY));
	fd = must(open("old", O_RDONLY | O_DIRECTORY));
	must(syscall(SYS_getdents, fd, buffer, sizeof buffer));
	say("list", "listed");
	say("list", "old");
	say("used", "opened");
	say("absent", "listed/one");
	say("absent", "listed/empty");
	say("absent", "old/one");
}
