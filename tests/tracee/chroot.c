/* chroot: absolute paths and absolute links begin at the new root, in this
 * process only; a descriptor from outside leads outside. */
#include "tracee.h"

static void prepare(void)
{
	dir("jail");
	dir("jail/etc");
	file("jail/etc/file");
	must(symlink("/etc/file", "jail/link"));
	dir("jail/above");
	must(symlink("/../../etc/file", "jail/above/link"));
	dir("out");
	file("out/side");
	file("after");
	file("jail/in-thread");
	file("before-chdir");
	copy(self, "jail/program");
}

static void run(void)
{
	int out = must(open("out", O_PATH));
	pid_t child;

	if (geteuid())
		must(unshare(CLONE_NEWUSER));
	child = must(fork());
	if (!child) {
		must(chroot("jail"));
		must(open("before-chdir", O_RDONLY)); /* the directory is still outside */
		must(chdir("/"));
		must(open("/etc/file", O_RDONLY));
		must(open("link", O_RDONLY));
		must(open("above/link", O_RDONLY));
		must(open("/../in-thread", O_RDONLY));
		must(openat(out, "side", O_RDONLY));
		fails(open("/after", O_RDONLY), ENOENT);
		must(setenv("TRACEE_ENDS", "1", 1));
		execv("/program", (char *const[]){ "program", NULL });
		_exit(0); /* linked dynamically: its interpreter is not in there */
	}
	reap(child, 0);
	must(open("after", O_RDONLY));
	say("enter", "jail");
	say("read", "jail/etc/file");
	say("link", "jail/link");
	say("link", "jail/above/link");
	say("read", "jail/in-thread");
	say("used", "out");
	say("read", "out/side");
	say("read", "after");
	say("read", "before-chdir");
	say("used", "jail/program");
	say("absent", "/after");
	say("absent", "/etc/file");
}
