/* Each link crossed is used: absolute, relative, in the middle, chained; and
 * loops, dangling links, links to directories, magic links. */
#include "tracee.h"

static void prepare(void)
{
	char target[PATH_MAX + 32];

	dir("real");
	dir("real/sub");
	file("real/sub/file");
	file("real/chained");
	sprintf(target, "%s/real", base);
	must(symlink(target, "absolute"));
	must(symlink("real/sub", "middle"));
	must(symlink("c2", "c1"));
	must(symlink("c3", "c2"));
	must(symlink("./real/../real/chained", "c3"));
	must(symlink("loop-b", "loop-a"));
	must(symlink("loop-a", "loop-b"));
	must(symlink("not-there", "dangling"));
	must(symlink("real/", "slash"));
	file("untouched");
	must(symlink("untouched", "unused"));
	must(symlink("untouched", "no-follow"));
	file("magic");
}

static void run(void)
{
	char path[64];
	int fd;

	must(open("absolute/sub/file", O_RDONLY));
	must(open("middle/file", O_RDONLY));
	must(open("c1", O_RDONLY));
	must(access("slash/chained", R_OK));
	fails(open("loop-a", O_RDONLY), ELOOP);
	fails(open("dangling", O_RDONLY), ENOENT);
	fails(open("no-follow", O_RDONLY | O_NOFOLLOW), ELOOP);
	fd = must(open("magic", O_PATH));
	sprintf(path, "/proc/self/fd/%d", fd);
	must(open(path, O_RDONLY));
	say("link", "absolute");
	say("link", "middle");
	say("read", "real/sub/file");
	say("link", "c1");
	say("link", "c2");
	say("link", "c3");
	say("read", "real/chained");
	say("link", "slash");
	say("used", "dangling");
	say("used", "loop-a");
	say("used", "loop-b");
	say("used", "no-follow");
	say("read", "magic");
	say("absent", "not-there");
	say("absent", "untouched");
	say("absent", "unused");
}
