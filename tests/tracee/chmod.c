/* chmod, fchmodat, fchmodat2, file_getattr. */
#include "tracee.h"

#ifndef SYS_fchmodat2 /* since Linux 6.6, the same number on all machines */
#define SYS_fchmodat2 452
#endif
#ifndef SYS_file_getattr /* since Linux 6.17, the same number on all machines */
#define SYS_file_getattr 468
#endif

static void prepare(void)
{
	dir("d");
	file("chmod");
	file("d/fchmodat");
	file("d/fchmodat2");
	file("d/file_getattr");
}

static void run(void)
{
	char attributes[24]; /* struct file_attr */
	int d = must(open("d", O_PATH));

	must(syscall(SYS_chmod, "chmod", 0600));
	must(syscall(SYS_fchmodat, d, "fchmodat", 0600));
	if (syscall(SYS_fchmodat2, d, "fchmodat2", 0600, 0) != -1 || errno != ENOSYS)
		say("write", "d/fchmodat2");
	if (syscall(SYS_file_getattr, d, "file_getattr", attributes, sizeof attributes, 0) != -1 ||
	    errno == ENOTTY || errno == EOPNOTSUPP)
		say("inspect", "d/file_getattr");
	fails(syscall(SYS_chmod, "no-chmod", 0600), ENOENT);
	say("write", "chmod");
	say("write", "d/fchmodat");
	say("used", "d");
	say("absent", "no-chmod");
}
