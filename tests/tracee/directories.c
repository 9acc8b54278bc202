/* Empty directories, and those in which the run makes something, are needed. */
#include "tracee.h"

static void prepare(void)
{
	dir("empty");
	dir("entered");
	dir("looked-at");
	dir("for-creat");
	dir("for-rename");
	dir("for-unlink");
	file("for-unlink/file");
	dir("unused");
}

static void run(void)
{
	must(open("empty", O_RDONLY | O_DIRECTORY));
	must(chdir("entered"));
	must(chdir(".."));
	must(access("looked-at", W_OK));
	must(creat("for-creat/file", 0644));
	must(rename("for-creat/file", "for-rename/file"));
	must(unlink("for-unlink/file"));
	say("used", "empty");
	say("enter", "entered");
	say("inspect", "looked-at");
	say("parent", "for-creat");
	say("parent", "for-rename");
	say("parent", "for-unlink");
	say("deleted", "for-unlink/file");
	say("absent", "for-creat/file");
	say("made", "for-rename/file");
	say("absent", "unused");
}
