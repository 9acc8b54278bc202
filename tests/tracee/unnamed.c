/* Files that have no name, or none any more: nothing of them is in the spec. */
#include "tracee.h"

static void prepare(void)
{
	file("deleted");
	file("named");
	dir("d");
	copy(self, "program");
}

static void reopen(int fd)
{
	char path[64];

	sprintf(path, "/proc/self/fd/%d", fd);
	must(close(must(open(path, O_RDONLY))));
	must(access(path, F_OK));
}

static void run(void)
{
	char *const argv[] = { "unnamed", NULL };
	char buffer[1 << 16];
	int memory = must(memfd_create("vz memory", MFD_CLOEXEC)), fd, pipes[2];
	ssize_t n;
	pid_t child;

	/* A program that lies in memory only. */
	fd = must(open("program", O_RDONLY));
	while ((n = must(read(fd, buffer, sizeof buffer))) > 0)
		must(write(memory, buffer, n));
	must(setenv("TRACEE_ENDS", "1", 1));
	child = must(fork());
	if (!child) {
		fexecve(memory, argv, environ);
		_exit(98);
	}
	reap(child, 0);
	reopen(memory);
	must(pipe(pipes));
	reopen(pipes[0]);
	fd = must(open("deleted", O_RDONLY));
	must(unlink("deleted"));
	reopen(fd);
	fd = must(open("d", O_RDWR | O_TMPFILE, 0600));
	reopen(fd);
	reopen(must(open("named", O_RDONLY)));
	say("read", "program");
	say("deleted", "deleted");
	say("parent", ".");
	say("used", "d");
	say("read", "named");
	say("absent", "/memfd:vz memory (deleted)");
}
