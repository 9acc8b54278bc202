/* stat, lstat, fstatat, statx: a path only looked at is a use. */
#include "tracee.h"

#ifdef SYS_newfstatat
#define FSTATAT SYS_newfstatat
#else
#define FSTATAT SYS_fstatat64
#endif

static void prepare(void)
{
	dir("d");
	file("stat");
	file("lstat");
	file("target");
	must(symlink("../target", "d/link"));
	must(symlink("target", "link"));
	file("d/fstatat");
	file("d/statx");
	file("by-descriptor");
#ifdef __i386__
	file("stat64");
	file("lstat64");
#endif
}

static void run(void)
{
	char buffer[1024];
	int d = must(open("d", O_PATH)), fd = must(open("by-descriptor", O_PATH));

	must(syscall(SYS_stat, "stat", buffer));
	must(syscall(SYS_lstat, "lstat", buffer));
	must(syscall(SYS_lstat, "link", buffer));
	must(syscall(FSTATAT, d, "fstatat", buffer, 0));
	must(syscall(FSTATAT, d, "link", buffer, AT_SYMLINK_NOFOLLOW));
	must(syscall(SYS_statx, d, "statx", 0, STATX_BASIC_STATS, buffer));
	must(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, buffer));
	fails(syscall(SYS_stat, "no-stat", buffer), ENOENT);
	fails(syscall(SYS_statx, d, "no-statx", 0, STATX_BASIC_STATS, buffer), ENOENT);
#ifdef __i386__
	must(syscall(SYS_stat64, "stat64", buffer));
	must(syscall(SYS_lstat64, "lstat64", buffer));
	say("inspect", "stat64");
	say("inspect", "lstat64");
#endif
	say("inspect", "stat");
	say("inspect", "lstat");
	say("inspect", "link"); /* itself, not what it points to */
	say("inspect", "d/fstatat");
	say("inspect", "d/link");
	say("inspect", "d/statx");
	say("used", "by-descriptor");
	say("used", "d");
	say("absent", "target");
	say("absent", "no-stat");
	say("absent", "d/no-statx");
}
