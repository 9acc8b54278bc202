/* A program with seccomp filters of its own: calls answered with an error, by a
 * signal, by death; and strict mode, which no program with a filter may enter. */
#include "tracee.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void prepare(void)
{
	file("file");
	file("last");
}

/* From now on, this call gets this action. */
static void filter(int number, unsigned action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void trapped(int signal, siginfo_t *info, void *context)
{
	(void)context;
	dprintf(1, "signal %d code %d errno %d call %d\n", signal, info->si_code, info->si_errno,
		info->si_syscall == SYS_mkdir);
}

static void run(void)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
	const char *how = getenv("TRACEE_FILTER");
	int status, kill = !strcmp(how, "kill");
	pid_t child;

	if (!strcmp(how, "errno")) {
		filter(SYS_mkdir, SECCOMP_RET_ERRNO | ENOTTY);
		fails(syscall(SYS_mkdir, "made", 0755), ENOTTY);
		fails(syscall(SYS_mkdir, "file", 0755), ENOTTY);
	} else if (!strcmp(how, "trap")) {
		must(sigaction(SIGSYS, &action, NULL));
		filter(SYS_mkdir, SECCOMP_RET_TRAP | 42);
		syscall(SYS_mkdir, "made", 0755);
	} else if (kill || !strcmp(how, "kill-thread")) {
		child = must(fork());
		if (!child) {
			filter(SYS_mkdir, kill ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_KILL_THREAD);
			syscall(SYS_mkdir, "made", 0755);
			_exit(0);
		}
		must(waitpid(child, &status, 0));
		dprintf(1, "ended by signal %d\n", WTERMSIG(status));
	} else if (!strcmp(how, "trace")) {
		/* Without a tracer this is ENOSYS. */
		filter(SYS_mkdir, SECCOMP_RET_TRACE | 7);
		fails(syscall(SYS_mkdir, "made", 0755), ENOSYS);
	} else if (!strcmp(how, "log")) {
		filter(SYS_openat, SECCOMP_RET_LOG);
	} else {
		give_up("TRACEE_FILTER");
	}
	must(open("last", O_RDONLY));
}
