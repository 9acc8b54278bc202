/* Spaces, quotes, backslashes, newlines, bytes that are not UTF-8, names of 255
 * bytes, and paths longer than PATH_MAX through directory descriptors. */
#include "tracee.h"

static const char *const names[] = { " ", "a b", " leading and trailing ", "\"quoted\"", "'",
				     "back\\slash", "new\nline", "\n", "tab\t", "\xff\xfe",
				     "caf\xc3\xa9", "*", "?", "[a]", "-o", "#", "~", "$HOME",
				     "\x7f", "\x1b[31m", "\\x41", "...", "line\r" };

/* Goes into (making it first, where asked) a chain of directories whose path is
 * longer than PATH_MAX; returns the last one, and its path. */
static int descend(int make, char *path)
{
	char name[200] = "";
	int fd = must(open(".", O_PATH)), next;

	memset(name, 'n', sizeof name - 1);
	strcpy(path, "");
	for (int i = 0; i < 25; i++) {
		if (make)
			must(mkdirat(fd, name, 0755));
		next = must(openat(fd, name, O_PATH));
		must(close(fd));
		fd = next;
		strcat(strcat(path, i ? "/" : ""), name);
	}
	return fd;
}

static void prepare(void)
{
	static char path[2 * PATH_MAX];
	char name[256] = "";
	int fd;

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		file(names[i]);
	memset(name, 'l', 255);
	file(name);
	fd = descend(1, path);
	must(close(must(openat(fd, "deep", O_CREAT | O_WRONLY, 0644))));
	must(close(must(openat(fd, "by-cwd", O_CREAT | O_WRONLY, 0644))));
}

static void run(void)
{
	static char path[2 * PATH_MAX], deep[2 * PATH_MAX + 16];
	char name[256] = "";
	int fd;

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		must(open(names[i], O_RDONLY));
		say("read", names[i]);
	}
	memset(name, 'l', 255);
	must(open(name, O_RDONLY));
	say("read", name);
	fd = descend(0, path);
	must(openat(fd, "deep", O_RDONLY));
	sprintf(deep, "%s/deep", path);
	say("read", deep);
	fails(open(deep, O_RDONLY), ENAMETOOLONG);
	must(fchdir(fd));
	must(open("by-cwd", O_RDONLY));
	sprintf(deep, "%s/by-cwd", path);
	say("read", deep);
}
