/* Files that were there and that the run writes, in every way. */
#include "tracee.h"

static void prepare(void)
{
	static const char *const names[] = { "written", "appended", "read-write", "creat-existing",
					     "trunc", "mapped", "over", "recreated", "restored",
					     "only-opened", "read-then-deleted", "hard", "later",
					     "by-proc" };

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		file(names[i]);
	must(link("hard", "hard-too"));
	file("linked");
	must(symlink("linked", "link"));
	must(symlink("nowhere", "relinked"));
	dir("d");
}

static int put(const char *path, int flags)
{
	int fd = must(open(path, flags, 0644));

	must(write(fd, "changed\n", 8));
	return fd;
}

static void run(void)
{
	char buffer[100], path[64];
	int fd;

	put("written", O_WRONLY);
	put("appended", O_WRONLY | O_APPEND);
	put("read-write", O_RDWR);
	put("creat-existing", O_WRONLY | O_CREAT);
	put("trunc", O_WRONLY | O_CREAT | O_TRUNC);
	put("link", O_WRONLY);
	put("hard-too", O_WRONLY);
	must(open("only-opened", O_RDWR));

	fd = must(open("mapped", O_RDWR));
	*(char *)must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) = 'X';

	put("over.tmp", O_WRONLY | O_CREAT | O_EXCL); /* as editors save */
	must(rename("over.tmp", "over"));

	must(unlink("recreated"));
	put("recreated", O_WRONLY | O_CREAT | O_EXCL);

	fd = must(open("restored", O_RDONLY)); /* deleted, then written as it was */
	ssize_t size = must(read(fd, buffer, sizeof buffer));
	must(unlink("restored"));
	must(write(must(open("restored", O_WRONLY | O_CREAT, 0644)), buffer, size));

	fd = must(open("read-then-deleted", O_RDONLY));
	must(read(fd, buffer, sizeof buffer));
	must(unlink("read-then-deleted"));

	must(open("later", O_RDONLY)); /* read first, changed twice */
	put("later", O_WRONLY | O_APPEND);
	put("later", O_WRONLY | O_TRUNC);

	fd = must(open("by-proc", O_RDONLY));
	sprintf(path, "/proc/self/fd/%d", fd);
	put(path, O_WRONLY);

	must(unlink("relinked"));
	must(symlink("elsewhere", "relinked"));

	put("d/new", O_WRONLY | O_CREAT | O_EXCL);
	fails(open("no/parent", O_WRONLY | O_CREAT, 0644), ENOENT);

	say("changed", "written");
	say("changed", "appended");
	say("changed", "read-write");
	say("changed", "creat-existing");
	say("changed", "trunc");
	say("link", "link");
	say("changed", "linked");
	say("changed", "hard-too");
	say("used", "only-opened"); /* whether it was changed is not asked */
	say("changed", "mapped");
	say("changed", "over");
	say("absent", "over.tmp");
	say("changed", "recreated");
	say("changed", "restored");
	say("read", "restored");
	say("deleted", "read-then-deleted");
	say("read", "read-then-deleted");
	say("changed", "later");
	say("changed", "by-proc");
	say("changed", "relinked");
	say("parent", ".");
	say("parent", "d");
	say("made", "d/new");
	say("absent", "hard");
	say("absent", "nowhere");
	say("absent", "elsewhere");
	say("absent", "no");
	say("absent", "no/parent");
}
