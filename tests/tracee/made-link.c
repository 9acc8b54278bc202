/* Old files read through a link that the run made, and deleted again. */
#include "tracee.h"

static void prepare(void)
{
	file("target");
	dir("dir");
	file("dir/inside");
	file("deleted");
	dir("old");
	file("old/file");
}

static void run(void)
{
	must(symlink("target", "link"));
	must(open("link", O_RDONLY));
	must(unlink("link"));

	must(symlink("dir", "dirlink"));
	must(open("dirlink/inside", O_RDONLY));
	must(unlink("dirlink"));

	/* The link stays, what it points to goes. */
	must(symlink("deleted", "stays"));
	must(open("stays", O_RDONLY));
	must(unlink("deleted"));

	/* A hard link made by the run is another name of an old file. */
	must(link("old/file", "name"));
	must(open("name", O_RDONLY));
	must(unlink("name"));

	say("parent", ".");
	say("read", "target");
	say("absent", "link");
	say("read", "dir/inside");
	say("absent", "dirlink");
	say("deleted", "deleted");
	say("read", "deleted");
	say("made", "stays");
	say("used", "old/file");
	say("absent", "name");
}
