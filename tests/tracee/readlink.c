/* readlink, readlinkat: the link is used, what it points to is not. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("target");
	must(symlink("target", "link"));
	must(symlink("../target", "d/link"));
	must(symlink("nowhere", "dangling"));
	must(symlink("target", "opened"));
}

static void run(void)
{
	char buffer[PATH_MAX];
	int d = must(open("d", O_PATH)), link = must(open("opened", O_PATH | O_NOFOLLOW));

	must(syscall(SYS_readlink, "link", buffer, sizeof buffer));
	must(syscall(SYS_readlink, "dangling", buffer, sizeof buffer));
	must(syscall(SYS_readlinkat, d, "link", buffer, sizeof buffer));
	must(syscall(SYS_readlinkat, link, "", buffer, sizeof buffer));
	fails(syscall(SYS_readlink, "no-link", buffer, sizeof buffer), ENOENT);
	say("inspect", "link");
	say("inspect", "dangling");
	say("inspect", "d/link");
	say("used", "opened");
	say("used", "d");
	say("absent", "target");
	say("absent", "nowhere");
	say("absent", "no-link");
}
