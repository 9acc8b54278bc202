/* chdir, fchdir: a directory entered is used, and relative paths start there. */
#include "tracee.h"

static void prepare(void)
{
	dir("chdir");
	dir("chdir/fchdir");
	dir("chdir/through");
	file("chdir/in-chdir");
	file("chdir/fchdir/in-fchdir");
	must(symlink("chdir/through", "link"));
	file("chdir/through/in-link");
	file("chdir/above-link");
}

static void run(void)
{
	int fd;

	must(syscall(SYS_chdir, "chdir"));
	must(open("in-chdir", O_RDONLY));
	fd = must(open("fchdir", O_PATH | O_DIRECTORY));
	must(syscall(SYS_fchdir, fd));
	must(open("in-fchdir", O_RDONLY));
	fails(syscall(SYS_chdir, "no-chdir"), ENOENT);
	must(open("in-fchdir", O_RDONLY)); /* still there */
	must(chdir(base));
	must(chdir("link"));
	must(open("in-link", O_RDONLY));
	must(open("../above-link", O_RDONLY));
	say("enter", "chdir");
	say("enter", "chdir/fchdir");
	say("enter", "chdir/through");
	say("link", "link");
	say("read", "chdir/in-chdir");
	say("read", "chdir/fchdir/in-fchdir");
	say("read", "chdir/through/in-link");
	say("read", "chdir/above-link");
	say("absent", "chdir/fchdir/no-chdir");
}
