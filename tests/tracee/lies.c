/* Says the truth, and the line TRACEE_LIE besides; without it, leaves one out. */
#include "tracee.h"

static void prepare(void)
{
	file("read");
	file("changed");
	file("untouched");
	file("deleted");
	dir("listed");
}

static void run(void)
{
	const char *lie = getenv("TRACEE_LIE");
	char word[32], path[32];

	must(open("read", O_RDONLY));
	must(open("changed", O_WRONLY | O_TRUNC));
	must(unlink("deleted"));
	must(creat("listed/made", 0644));
	if (!lie || strcmp(lie, "omit"))
		say("read", "read");
	say("changed", "changed");
	say("deleted", "deleted");
	say("made", "listed/made");
	say("parent", "listed");
	say("absent", "untouched");
	if (lie && sscanf(lie, "%31s %31s", word, path) == 2)
		say(word, path);
}
