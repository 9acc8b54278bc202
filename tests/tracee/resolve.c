/* openat2 with its own ideas of the root and of links. */
#include "tracee.h"
#include <linux/openat2.h>

static void prepare(void)
{
	dir("root");
	dir("root/etc");
	file("root/etc/file");
	must(symlink("/etc/file", "root/absolute"));
	must(symlink("../../../etc/file", "root/above"));
	must(symlink("etc/file", "root/relative"));
	file("outside");
	must(symlink("../outside", "root/escape"));
	file("root/beneath");
}

static long opened(int dirfd, const char *path, unsigned long long resolve)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = resolve };

	return syscall(SYS_openat2, dirfd, path, &how, sizeof how);
}

static void run(void)
{
	int root = must(open("root", O_PATH));

	must(opened(root, "/etc/file", RESOLVE_IN_ROOT));
	must(opened(root, "absolute", RESOLVE_IN_ROOT));
	must(opened(root, "above", RESOLVE_IN_ROOT));
	must(opened(root, "beneath", RESOLVE_BENEATH));
	fails(opened(root, "../outside", RESOLVE_BENEATH), EXDEV);
	fails(opened(root, "relative", RESOLVE_NO_SYMLINKS), ELOOP);
	say("used", "root");
	say("read", "root/etc/file");
	say("link", "root/absolute");
	say("link", "root/above");
	say("read", "root/beneath");
	say("used", "root/relative");
	say("optional", "outside"); /* it was there, and the call failed */
	say("absent", "/etc/file");
	say("absent", "root/escape");
}
