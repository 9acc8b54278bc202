/* mkdir, mkdirat, mknod, mknodat: made by the run, in directories that are needed. */
#include "tracee.h"

static void prepare(void)
{
	dir("for-mkdir");
	dir("for-mkdirat");
	dir("for-mknod");
	dir("for-mknodat");
	dir("there");
}

static void run(void)
{
	int d = must(open("for-mkdirat", O_PATH)), e = must(open("for-mknodat", O_PATH));

	must(syscall(SYS_mkdir, "for-mkdir/made", 0755));
	must(syscall(SYS_mkdirat, d, "made", 0755));
	must(syscall(SYS_mkdir, "for-mkdir/made/below", 0755));
	must(syscall(SYS_mknod, "for-mknod/fifo", S_IFIFO | 0644, 0));
	must(syscall(SYS_mknodat, e, "file", S_IFREG | 0644, 0));
	fails(syscall(SYS_mkdir, "there", 0755), EEXIST); /* as `mkdir -p` asks */
	fails(syscall(SYS_mkdir, "no-parent/made", 0755), ENOENT);
	say("parent", "for-mkdir");
	say("parent", "for-mkdirat");
	say("parent", "for-mknod");
	say("parent", "for-mknodat");
	say("used", "there");
	say("made", "for-mkdir/made");
	say("made", "for-mkdir/made/below");
	say("made", "for-mkdirat/made");
	say("made", "for-mknod/fifo");
	say("made", "for-mknodat/file");
	say("absent", "no-parent");
	say("absent", "no-parent/made");
}
