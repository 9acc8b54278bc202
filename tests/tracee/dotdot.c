/* `..` after a link leads above the link's target, not above the link. */
#include "tracee.h"

static void prepare(void)
{
	dir("d1");
	dir("far");
	dir("far/away");
	dir("far/d2");
	file("far/d2/f");
	dir("d2");
	file("d2/f"); /* where text would lead */
	must(symlink("../far/away", "d1/link"));
	file("far/sibling");
	file("d1/dots");
	dir("d1/sub");
	file("d1/trailing");
}

static void run(void)
{
	char path[PATH_MAX + 64];

	sprintf(path, "%s/d1/link/../d2/f", base);
	must(open(path, O_RDONLY));
	must(open("d1/link/../sibling", O_RDONLY));
	must(open("./d1//sub/.././dots", O_RDONLY));
	fails(open("d1/trailing/..", O_RDONLY), ENOTDIR);
	must(access("/../../..", F_OK)); /* the root is its own parent */
	say("link", "d1/link");
	say("read", "far/d2/f");
	say("read", "far/sibling");
	say("read", "d1/dots");
	say("used", "/");
	say("absent", "d2/f");
	say("absent", "d1/sibling");
}
