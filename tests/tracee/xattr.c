/* The xattr family: reading is a look, setting changes the file's metadata. */
#include "tracee.h"
#include <sys/xattr.h>

#ifndef SYS_setxattrat /* since Linux 6.13, the same numbers on all machines */
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif

struct xattr_arguments {
	uint64_t value;
	uint32_t size, flags;
};

static void prepare(void)
{
	static const char *const names[] = { "getxattr", "listxattr", "removexattr",
					     "getxattrat", "listxattrat", "removexattrat" };

	for (int i = 0; i < 6; i++) {
		file(names[i]);
		must(setxattr(names[i], "user.vz", "1", 1, 0));
	}
	file("setxattr");
	file("setxattrat");
	file("target");
	must(symlink("target", "llistxattr"));
	must(symlink("target", "lgetxattr"));
}

static void run(void)
{
	char value[256] = "2";
	struct xattr_arguments arguments = { (uintptr_t)value, sizeof value, 0 };

	must(syscall(SYS_getxattr, "getxattr", "user.vz", value, sizeof value));
	must(syscall(SYS_listxattr, "listxattr", value, sizeof value));
	must(syscall(SYS_llistxattr, "llistxattr", value, sizeof value));
	fails(syscall(SYS_lgetxattr, "lgetxattr", "trusted.vz", value, sizeof value), ENODATA);
	must(syscall(SYS_setxattr, "setxattr", "user.vz", "2", 1, 0));
	must(syscall(SYS_removexattr, "removexattr", "user.vz"));
	fails(syscall(SYS_getxattr, "no-getxattr", "user.vz", value, sizeof value), ENOENT);
	if (syscall(SYS_getxattrat, AT_FDCWD, "getxattrat", 0, "user.vz", &arguments,
		    sizeof arguments) != -1 || errno != ENOSYS) {
		must(syscall(SYS_listxattrat, AT_FDCWD, "listxattrat", 0, value, sizeof value));
		arguments = (struct xattr_arguments){ (uintptr_t) "2", 1, 0 };
		must(syscall(SYS_setxattrat, AT_FDCWD, "setxattrat", 0, "user.vz", &arguments,
			     sizeof arguments));
		must(syscall(SYS_removexattrat, AT_FDCWD, "removexattrat", 0, "user.vz"));
		say("inspect", "getxattrat");
		say("inspect", "listxattrat");
		say("write", "setxattrat");
		say("write", "removexattrat");
	}
	say("inspect", "getxattr");
	say("inspect", "listxattr");
	say("inspect", "llistxattr");
	say("inspect", "lgetxattr");
	say("write", "setxattr");
	say("write", "removexattr");
	say("absent", "target");
	say("absent", "no-getxattr");
}
