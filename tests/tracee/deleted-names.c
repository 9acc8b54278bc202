/* The kernel shows a deleted directory as `PATH (deleted)`; there are living ones
 * that are really called so. */
#include "tracee.h"

static void prepare(void)
{
	dir("living (deleted)");
	file("living (deleted)/by-cwd");
	file("living (deleted)/by-descriptor");
	dir("living");
	file("living/by-cwd");
	dir("gone");
	file("after");
}

static void run(void)
{
	char path[PATH_MAX + 16];
	int d, back = must(open(".", O_PATH));

	must(chdir("living (deleted)"));
	must(open("by-cwd", O_RDONLY));
	must(chdir(base));
	d = must(open("living (deleted)", O_PATH));
	must(openat(d, "by-descriptor", O_RDONLY));

	/* A working directory that is deleted, with its name made anew. */
	must(chdir("gone"));
	sprintf(path, "%s/gone", base);
	must(rmdir(path));
	fails(open("file", O_RDONLY), ENOENT);
	must(mkdir(path, 0755));
	strcat(path, "/file");
	must(close(must(creat(path, 0644))));
	fails(open("file", O_RDONLY), ENOENT);
	must(fchdir(back));
	must(open("after", O_RDONLY));
	must(open("gone/file", O_RDONLY));

	say("enter", "living (deleted)");
	say("read", "living (deleted)/by-cwd");
	say("read", "living (deleted)/by-descriptor");
	say("absent", "living");
	say("absent", "living/by-cwd");
	say("used", "gone");
	say("made", "gone/file");
	say("parent", ".");
	say("read", "after");
}
