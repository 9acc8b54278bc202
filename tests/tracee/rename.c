/* rename, renameat, renameat2: the old name was there, the new one was made. */
#include "tracee.h"

static void prepare(void)
{
	dir("from");
	dir("to");
	file("rename");
	file("from/renameat");
	file("from/renameat2");
	file("over");
	file("to/overwritten");
	file("left");
	file("right");
}

static void run(void)
{
	int from = must(open("from", O_PATH)), to = must(open("to", O_PATH));

	must(syscall(SYS_rename, "rename", "renamed"));
	must(syscall(SYS_renameat, from, "renameat", to, "renamedat"));
	must(syscall(SYS_renameat2, from, "renameat2", to, "renamedat2", RENAME_NOREPLACE));
	must(syscall(SYS_rename, "over", "to/overwritten"));
	must(syscall(SYS_renameat2, AT_FDCWD, "left", AT_FDCWD, "right", RENAME_EXCHANGE));
	fails(syscall(SYS_rename, "no-rename", "renamed"), ENOENT);
	must(open("renamed", O_RDONLY)); /* reads what was `rename` */
	say("deleted", "rename");
	say("deleted", "from/renameat");
	say("deleted", "from/renameat2");
	say("deleted", "over");
	say("changed", "to/overwritten");
	say("changed", "left");
	say("changed", "right");
	say("parent", ".");
	say("parent", "from");
	say("parent", "to");
	say("made", "renamed");
	say("made", "to/renamedat");
	say("made", "to/renamedat2");
	say("absent", "no-rename");
}
