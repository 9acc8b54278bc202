/* A directory descriptor with garbage in its upper half, an absolute path with
 * a bad descriptor, a descriptor that was renamed, moved, or reused. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("d/garbage");
	file("absolute");
	dir("first");
	file("first/same");
	dir("second");
	file("second/same");
	dir("high");
	file("high/file");
	dir("inherited");
	file("inherited/file");
}

static void run(void)
{
	char path[PATH_MAX + 16];
	int fd = must(open("d", O_PATH));
	pid_t child;

#ifdef __x86_64__
	must(syscall(SYS_openat, fd | 0x5a5a5a5a00000000, "garbage", O_RDONLY));
	must(syscall(SYS_openat, (unsigned)AT_FDCWD, "d/garbage", O_RDONLY));
#else
	must(syscall(SYS_openat, fd, "garbage", O_RDONLY));
#endif
	sprintf(path, "%s/absolute", base);
	must(openat(12345, path, O_RDONLY));
	fails(openat(12345, "absolute", O_RDONLY), EBADF);
	fd = must(open("first", O_PATH));
	must(openat(fd, "same", O_RDONLY));
	must(dup2(must(open("second", O_PATH)), fd));
	must(faccessat(fd, "same", R_OK, 0));
	fd = must(fcntl(must(open("high", O_PATH)), F_DUPFD, 777));
	must(openat(fd, "file", O_RDONLY));
	fd = must(open("inherited", O_PATH));
	child = must(fork());
	if (!child) {
		must(chdir("/"));
		must(openat(fd, "file", O_RDONLY));
		_exit(0);
	}
	reap(child, 0);
	say("used", "d");
	say("read", "d/garbage");
	say("read", "absolute");
	say("used", "first");
	say("read", "first/same");
	say("used", "second");
	say("inspect", "second/same");
	say("used", "high");
	say("read", "high/file");
	say("used", "inherited");
	say("read", "inherited/file");
}
