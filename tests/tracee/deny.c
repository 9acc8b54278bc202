/* Runs a command on a kernel that denies it some calls, as a container may:
 *
 *   deny CALL… -- COMMAND      where CALL is `ptrace`, `seccomp`, `getinfo` */
#define TRACEE_HAS_MAIN
#include "tracee.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

/* From now on, this call gets this error; where `argument` is not ANY, only with
 * that first argument. */
enum { ANY = -1 };

static void filter(int number, int argument, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, argument != ANY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

int main(int argc, char **argv)
{
	int i = 1;

	for (; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "ptrace"))
			filter(SYS_ptrace, ANY, EPERM);
		else if (!strcmp(argv[i], "getinfo")) /* PTRACE_GET_SYSCALL_INFO: Linux 5.3 */
			filter(SYS_ptrace, 0x420e, EIO);
	/* Last, since it stops this program from making filters as well. */
	for (i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "seccomp")) {
			filter(SYS_seccomp, ANY, EPERM);
			filter(SYS_prctl, PR_SET_SECCOMP, EPERM);
		}
	if (i + 1 >= argc)
		give_up("usage: deny CALL... -- COMMAND");
	execvp(argv[i + 1], argv + i + 1);
	give_up("%s", argv[i + 1]);
}
