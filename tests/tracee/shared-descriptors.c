/* Descriptors and working directories that somebody else changes: another thread,
 * a process with the same table, a process that renames what is above. */
#include "tracee.h"
#include <pthread.h>

static int fd, other;

static void prepare(void)
{
	static const char *const dirs[] = { "first", "second", "third", "own", "above", "above/cwd",
					    "above/dirfd" };

	for (int i = 0; i < 7; i++)
		dir(dirs[i]);
	file("first/one");
	file("first/two");
	file("second/one");
	file("second/two");
	file("third/three");
	file("own/four");
	file("own/five");
	file("second/five");
	file("above/cwd/file");
	file("above/dirfd/file");
}

static void *replaces(void *argument)
{
	must(dup2(other, fd));
	return argument;
}

static void *alone(void *argument)
{
	/* From here on this thread's descriptors are its own. */
	must(unshare(CLONE_FILES));
	must(dup2(must(open("own", O_PATH)), fd));
	must(openat(fd, "four", O_RDONLY));
	must(faccessat(fd, "five", F_OK, 0));
	return argument;
}

static int shares(void *argument)
{
	(void)argument;
	must(dup2(must(open("third", O_PATH)), fd));
	return 0;
}

static void run(void)
{
	static char stack[1 << 16] __attribute__((aligned(16)));
	pthread_t thread;
	pid_t child;

	fd = must(open("first", O_PATH));
	other = must(open("second", O_PATH));
	must(openat(fd, "one", O_RDONLY));
	pthread_create(&thread, NULL, replaces, NULL);
	pthread_join(thread, NULL);
	must(openat(fd, "two", O_RDONLY));
	pthread_create(&thread, NULL, alone, NULL);
	pthread_join(thread, NULL);
	must(faccessat(fd, "two", F_OK, 0)); /* still second's */
	reap(must(clone(shares, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL)), 0);
	must(openat(fd, "three", O_RDONLY));

	/* Above the working directory and a descriptor, by another process. */
	fd = must(open("above/dirfd", O_PATH));
	must(faccessat(fd, ".", F_OK, 0));
	must(chdir("above/cwd"));
	must(access(".", F_OK));
	child = must(fork());
	if (!child) {
		must(rename("../../above", "../../beyond"));
		_exit(0);
	}
	reap(child, 0);
	must(open("file", O_RDONLY));
	must(openat(fd, "file", O_RDONLY));

	say("used", "first");
	say("read", "first/one");
	say("absent", "first/two");
	say("used", "second");
	say("read", "second/two");
	say("absent", "second/one");
	say("absent", "second/five");
	say("used", "third");
	say("read", "third/three");
	say("used", "own");
	say("read", "own/four");
	say("inspect", "own/five");
	say("used", "above");
	say("used", "above/cwd");
	say("used", "above/cwd/file");
	say("used", "above/dirfd/file");
	say("parent", ".");
	say("made", "beyond");
}
