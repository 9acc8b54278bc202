/* Names that begin alike are different names. */
#include "tracee.h"

static void prepare(void)
{
	static const char *const names[] = { "a.js", "a.json", "a", "ab/", "ab/c", "ab/cd", "abc",
					     "gone", "gone-not", "gone.d/", "gone.d/file",
					     "moved/", "moved/file", "moved-not/",
					     "moved-not/file" };

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i][strlen(names[i]) - 1] == '/')
			must(mkdir(names[i], 0755));
		else
			file(names[i]);
}

static void run(void)
{
	must(open("a.js", O_RDONLY));
	must(open("a.json", O_RDONLY));
	must(open("ab/c", O_RDONLY));
	/* Made names must not hide old ones that begin with them. */
	must(unlink("gone"));
	must(open("gone", O_CREAT | O_WRONLY, 0644));
	must(open("gone-not", O_RDONLY));
	must(open("gone.d/file", O_RDONLY));
	must(mkdir("mov", 0755));
	must(open("moved/file", O_RDONLY));
	must(open("moved-not/file", O_RDONLY));
	say("read", "a.js");
	say("read", "a.json");
	say("read", "ab/c");
	say("parent", ".");
	say("changed", "gone");
	say("read", "gone-not");
	say("read", "gone.d/file");
	say("read", "moved/file");
	say("read", "moved-not/file");
	say("made", "mov");
	say("absent", "a");
	say("absent", "abc");
	say("absent", "ab/cd");
}
