/* What the run makes and then uses: pid files, temporary files, trees. */
#include "tracee.h"

#ifndef O_TMPFILE
#error O_TMPFILE
#endif

static void prepare(void)
{
	dir("run");
	dir("tmp");
	dir("cache");
	dir("unnamed");
	file("source");
	dir("out");
}

static void run(void)
{
	char buffer[100], path[64];
	int fd;

	/* A pid file: made, read back, deleted. */
	must(write(must(open("run/pid", O_WRONLY | O_CREAT | O_EXCL, 0644)), "1\n", 2));
	must(open("run/pid", O_RDONLY));
	must(unlink("run/pid"));
	fails(access("run/pid", F_OK), ENOENT);
	must(open("run/pid", O_WRONLY | O_CREAT, 0644)); /* and again */
	must(open("run/pid", O_RDWR));

	/* A tree of the run's own, then all of it away. */
	must(mkdir("tmp/tree", 0755));
	must(chdir("tmp/tree"));
	must(open("file", O_RDWR | O_CREAT, 0644));
	must(open("./../tree/file", O_RDONLY));
	must(chdir("../.."));
	must(unlink("tmp/tree/file"));
	must(rmdir("tmp/tree"));

	/* A tree made under one name, read under another. */
	must(mkdir("cache/new", 0755));
	must(mkdir("cache/new/sub", 0755));
	must(open("cache/new/sub/file", O_WRONLY | O_CREAT, 0644));
	must(rename("cache/new", "cache/now"));
	must(open("cache/now/sub/file", O_RDONLY));
	must(access("cache/now/sub", F_OK));

	/* An unnamed file that gets a name. */
	fd = must(open("unnamed", O_WRONLY | O_TMPFILE, 0644));
	sprintf(path, "/proc/self/fd/%d", fd);
	must(linkat(AT_FDCWD, path, AT_FDCWD, "unnamed/named", AT_SYMLINK_FOLLOW));
	must(open("unnamed/named", O_RDONLY));

	/* A copy: the source is used, the copy is not. */
	fd = must(open("source", O_RDONLY));
	ssize_t size = must(read(fd, buffer, sizeof buffer));
	fd = must(open("out/copy", O_WRONLY | O_CREAT, 0644));
	must(write(fd, buffer, size));
	must(open("out/copy", O_RDONLY));
	must(mknod("out/fifo", S_IFIFO | 0644, 0));
	must(open("out/fifo", O_RDWR));

	say("parent", "run");
	say("parent", "tmp");
	say("parent", "cache");
	say("parent", "unnamed");
	say("parent", "out");
	say("made", "run/pid");
	say("absent", "tmp/tree");
	say("absent", "tmp/tree/file");
	say("absent", "cache/new");
	say("made", "cache/now");
	say("absent", "cache/now/sub");
	say("absent", "cache/now/sub/file");
	say("made", "unnamed/named");
	say("read", "source");
	say("made", "out/copy");
	say("made", "out/fifo");
}
