/* A link gives way to a directory of the run's own: names below it are others then. */
#include "tracee.h"

static void prepare(void)
{
	dir("old");
	file("old/used");
	file("old/same");
	must(symlink("old", "link"));
}

static void run(void)
{
	must(open("link/used", O_RDONLY));
	must(unlink("link"));
	must(mkdir("link", 0755));
	must(open("link/same", O_RDWR | O_CREAT, 0644));
	say("read", "old/used");
	say("changed", "link");
	say("parent", ".");
	say("made", "link/same");
	say("absent", "old/same");
}
