/* Prints whatever a program can see of itself; to the file TRACEE_OUT, where
 * that is set, else to standard output. */
#include "tracee.h"
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <time.h>

static void prepare(void)
{
}

static void run(void)
{
	static const char *const fields[] = { "Name:", "Umask:", "Uid:", "Gid:", "Groups:",
					      "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:",
					      "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
					      "NoNewPrivs:", "Cpus_allowed_list:", "Threads:" };
	char line[PATH_MAX];
	const char *to = getenv("TRACEE_OUT");
	int flags[1024], fdflags[1024], death = -1;
	FILE *out, *in;

	for (int fd = 0; fd < 1024; fd++) {
		flags[fd] = fcntl(fd, F_GETFL);
		fdflags[fd] = fcntl(fd, F_GETFD);
	}
	out = to ? fopen(to, "w") : stdout;
	if (!out)
		give_up("fopen");
	for (int fd = 0; fd < 1024; fd++)
		if (flags[fd] != -1)
			fprintf(out, "fd %d flags %#o %#x\n", fd, flags[fd], fdflags[fd]);
	for (char **e = environ; *e; e++)
		fprintf(out, "env %s\n", *e);
	in = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof line, in))
		for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++)
			if (!strncmp(line, fields[i], strlen(fields[i])))
				fputs(line, out);
	fclose(in);
	in = fopen("/proc/self/limits", "r");
	while (fgets(line, sizeof line, in))
		fputs(line, out);
	fclose(in);
	in = fopen("/proc/self/cmdline", "r");
	for (int c; (c = getc(in)) != EOF;)
		putc(c ? c : '|', out);
	fclose(in);
	fprintf(out, "\nexecfn %s secure %lu\n", (char *)getauxval(AT_EXECFN), getauxval(AT_SECURE));
	fprintf(out, "cwd %s\n", getcwd(line, sizeof line));
	fprintf(out, "group %d session %d foreground %d\n", getpgrp(), getsid(0), tcgetpgrp(0));
	fprintf(out, "terminal %s %s %s\n", ttyname(0), ttyname(1), ttyname(2));
	fprintf(out, "nice %d policy %d\n", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
	fprintf(out, "personality %#x\n", personality(0xffffffff));
	prctl(PR_GET_PDEATHSIG, &death);
	fprintf(out, "dumpable %d death signal %d keepcaps %d subreaper %d\n",
		prctl(PR_GET_DUMPABLE), death, prctl(PR_GET_KEEPCAPS), 0);
	fprintf(out, "timer slack %d\n", prctl(PR_GET_TIMERSLACK));
	for (int s = 1; s < 65; s++) {
		struct sigaction action;

		if (!sigaction(s, NULL, &action) && action.sa_handler != SIG_DFL)
			fprintf(out, "signal %d %s\n", s,
				action.sa_handler == SIG_IGN ? "ignored" : "handled");
	}
	if (getenv("TRACEE_PARENT"))
		fprintf(out, "parent %d\n", getppid());
	if (fclose(out))
		give_up("fclose");
}
