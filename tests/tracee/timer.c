/* A timer without SA_RESTART over TRACEE_COUNT calls that do not sleep: none of
 * them is ever interrupted. */
#include "tracee.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
	(void)signal;
	ticks++;
}

static void prepare(void)
{
	file("file");
}

static void run(void)
{
	struct sigaction action = { .sa_handler = tick };
	struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { 0 };
	int count = atoi(getenv("TRACEE_COUNT")), interrupted = 0;
	struct stat st;

	must(sigaction(SIGALRM, &action, NULL));
	must(setitimer(ITIMER_REAL, &often, NULL));
	for (int i = 0; i < count; i++) {
		interrupted += stat("file", &st) == -1;
		if (i % 16 == 0) {
			int fd = open("file", O_RDONLY);

			interrupted += fd == -1 || close(fd);
		}
	}
	must(setitimer(ITIMER_REAL, &never, NULL));
	dprintf(1, "interrupted %d, ticks %s\n", interrupted, ticks ? "some" : "none");
}
