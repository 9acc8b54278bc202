/* A program that traces its child, which only one tracer can do. */
#include "tracee.h"
#include <sys/ptrace.h>

static void prepare(void)
{
	file("child");
	file("seized");
}

static void run(void)
{
	int status, denied = 0;
	pid_t child = must(fork());

	if (!child) {
		denied = ptrace(PTRACE_TRACEME, 0, 0, 0) == -1 && errno == EPERM;
		if (!denied)
			raise(SIGSTOP);
		must(open("child", O_RDONLY));
		_exit(denied);
	}
	must(waitpid(child, &status, 0));
	if (WIFSTOPPED(status)) {
		must(ptrace(PTRACE_CONT, child, 0, 0));
		must(waitpid(child, &status, 0));
	}
	denied = WEXITSTATUS(status);
	child = must(fork());
	if (!child) {
		must(open("seized", O_RDONLY));
		for (;;)
			pause();
	}
	denied += ptrace(PTRACE_SEIZE, child, 0, 0) == -1;
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, __WALL));
	say("read", "child");
	say("optional", "seized");
	if (denied)
		say("unseen", "ptrace");
}
