/* Children that ask not to be traced (CLONE_UNTRACED), by clone and clone3. */
#include "tracee.h"
#include <linux/sched.h>

static void prepare(void)
{
	file("clone");
	file("clone3");
	file("vfork");
	file("grandchild");
}

static int opens(void *path)
{
	_exit(open(path, O_RDONLY) < 0);
}

static int forks(void *path)
{
	int status;
	pid_t child = fork();

	if (!child)
		opens(path);
	waitpid(child, &status, 0);
	_exit(status != 0);
}

static void run(void)
{
	static char stack[1 << 16] __attribute__((aligned(16)));
	struct clone_args args = { .flags = CLONE_UNTRACED, .exit_signal = SIGCHLD };
	char *top = stack + sizeof stack;
	pid_t child;

	reap(must(clone(opens, top, CLONE_UNTRACED | SIGCHLD, "clone")), 0);
	reap(must(clone(opens, top, CLONE_UNTRACED | CLONE_VM | CLONE_VFORK | SIGCHLD, "vfork")), 0);
	reap(must(clone(forks, top, CLONE_UNTRACED | SIGCHLD, "grandchild")), 0);
	child = must(syscall(SYS_clone3, &args, sizeof args));
	if (!child)
		opens("clone3");
	reap(child, 0);
	if (args.flags != CLONE_UNTRACED)
		give_up("the arguments were changed");
	say("read", "clone");
	say("read", "vfork");
	say("read", "grandchild");
	say("read", "clone3");
}
