/* Waits at a terminal: TRACEE_HANDLES catches ^C and ^Z, counts them, and ends
 * with 7 after `quit`; else the default actions. */
#include "tracee.h"
#include <poll.h>
#include <termios.h>

static volatile sig_atomic_t interrupts, stops;

static void prepare(void)
{
}

static void count(int signal)
{
	if (signal == SIGINT)
		interrupts++;
	else
		stops++;
}

static void run(void)
{
	struct sigaction action = { .sa_handler = count };
	char line[100] = "";
	int handles = getenv("TRACEE_HANDLES") != NULL;
	sigset_t both, old;

	/* Signals arrive while it waits and at no other time. */
	sigemptyset(&both);
	sigaddset(&both, SIGINT);
	sigaddset(&both, SIGTSTP);
	must(sigprocmask(SIG_BLOCK, &both, &old));
	if (handles) {
		must(sigaction(SIGINT, &action, NULL));
		must(sigaction(SIGTSTP, &action, NULL));
	}
	printf("terminal %d %d %d foreground %d controlling %d\n", isatty(0), isatty(1), isatty(2),
	       tcgetpgrp(0) == getpgrp(), tcgetsid(0) == getsid(0));
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		struct pollfd fds = { 0, POLLIN, 0 };
		ssize_t n;

		if (ppoll(&fds, 1, NULL, &old) == -1) {
			printf("interrupts %d stops %d\n", interrupts, stops);
			fflush(stdout);
			continue;
		}
		n = read(0, line, sizeof line - 1);
		if (n <= 0)
			exit(8);
		line[n] = 0;
		printf("line %s", line);
		fflush(stdout);
		if (!strcmp(line, "quit\n"))
			exit(7);
	}
}
