/* Ends as TRACEE_END says: `exit N`, `kill N` (by a signal's default action),
 * `thread N` (exit from another thread), `group N` (exit of all from a thread
 * whose main thread is gone), `real` (by the fault itself). */
#include "tracee.h"
#include <pthread.h>

static int status;
static const long kernel_default[8]; /* the kernel's struct sigaction */

static void prepare(void)
{
}

static void *ends(void *argument)
{
	if (argument)
		pthread_join(*(pthread_t *)argument, NULL);
	exit(status);
}

static void run(void)
{
	const char *how = getenv("TRACEE_END");
	pthread_t thread, main_thread = pthread_self();

	status = atoi(strchr(how, ' ') + 1);
	if (!strncmp(how, "exit", 4))
		exit(status);
	if (!strncmp(how, "thread", 6)) {
		pthread_create(&thread, NULL, ends, NULL);
		for (;;)
			pause();
	}
	if (!strncmp(how, "group", 5)) {
		pthread_create(&thread, NULL, ends, &main_thread);
		pthread_exit(NULL);
	}
	if (!strncmp(how, "real", 4)) {
		*(volatile int *)8 = 1;
	}
	/* Signals 32 and 33, which libc keeps for itself, may be ignored here. */
	syscall(SYS_rt_sigaction, status, kernel_default, NULL, 8L);
	must(syscall(SYS_kill, getpid(), status));
	for (;;)
		pause();
}
