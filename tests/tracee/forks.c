/* TRACEE_COUNT children, made by every call that makes one; each opens a file
 * at once, so that its first stop and its parent's event race. */
#include "tracee.h"
#include <linux/sched.h>
#include <spawn.h>

enum { FILES = 1000 };

static void prepare(void)
{
	char name[32];

	for (int f = 0; f < FILES; f++) {
		sprintf(name, "%d", f);
		file(name);
	}
}

static char name[32];

static int opens(void *argument)
{
	/* No must(): with vfork this is the parent's memory. */
	_exit(open(argument, O_RDONLY) < 0);
}

static pid_t start(int how)
{
	static char stack[1 << 16] __attribute__((aligned(16)));
	struct clone_args args = { .exit_signal = SIGCHLD };
	pid_t child = 0;

	switch (how % 5) {
	case 0:
		child = fork();
		break;
	case 1:
		child = vfork();
		break;
	case 2:
		return clone(opens, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, name);
	case 3:
		child = syscall(SYS_clone3, &args, sizeof args);
		break;
	case 4:
		return clone(opens, stack + sizeof stack, SIGCHLD, name);
	}
	if (!child)
		opens(name);
	return child;
}

static void run(void)
{
	int count = atoi(getenv("TRACEE_COUNT")), pending = 0, status;

	for (int i = 0; i < count; i++) {
		sprintf(name, "%d", i % FILES);
		must(start(i));
		/* A few at a time, so that events interleave. */
		if (++pending == 8) {
			must(wait(&status));
			pending--;
			if (status)
				give_up("a child ended with %#x", status);
		}
	}
	while (pending--) {
		must(wait(&status));
		if (status)
			give_up("a child ended with %#x", status);
	}
	for (int f = 0; f < FILES && f < count; f++) {
		sprintf(name, "%d", f);
		say("read", name);
	}
}
