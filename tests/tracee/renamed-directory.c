/* Old files read under the new name of their directory: the spec has the name
 * that was there before the run. */
#include "tracee.h"

static void prepare(void)
{
	dir("old");
	dir("old/sub");
	file("old/sub/before");
	file("old/after");
	file("old/unused");
	dir("back");
	file("back/file");
	dir("twice");
	file("twice/file");
	dir("cwd");
	file("cwd/relative");
}

static void run(void)
{
	int fd;

	must(open("old/sub/before", O_RDONLY));
	must(rename("old", "new"));
	must(open("new/after", O_RDONLY));
	must(open("new/sub/before", O_RDONLY));

	/* There and back again. */
	must(rename("back", "away"));
	must(open("away/file", O_RDONLY));
	must(rename("away", "back"));

	must(rename("twice", "once"));
	must(rename("once", "thrice"));
	must(open("thrice/file", O_RDONLY));

	/* The working directory and a descriptor move along. */
	must(chdir("cwd"));
	fd = must(open(".", O_PATH));
	must(rename("../cwd", "../moved"));
	must(open("relative", O_RDONLY));
	must(faccessat(fd, "relative", R_OK, 0));

	say("parent", ".");
	say("used", "old");
	say("read", "old/sub/before");
	say("used", "old/after");
	say("optional", "old/unused"); /* moved away as well */;
	say("made", "new");
	say("absent", "new/after");
	say("absent", "new/sub/before");
	say("used", "back/file");
	say("absent", "away");
	say("absent", "away/file");
	say("used", "twice/file");
	say("absent", "once");
	say("absent", "thrice/file");
	say("enter", "cwd");
	say("used", "cwd/relative");
	say("absent", "moved/relative");
}
