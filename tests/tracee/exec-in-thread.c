/* execve in a thread that is not the leader, while others are busy, also after
 * the leader has gone; what runs then has the process's id. */
#include "tracee.h"
#include <pthread.h>

enum { ROUNDS = 10 };

static pthread_t leader;

static void prepare(void)
{
	file("busy");
	file("last");
	copy(self, "program");
}

static void *busy(void *argument)
{
	for (;;) {
		close(open("busy", O_RDONLY));
		access("busy", F_OK);
	}
	return argument;
}

static void *executes(void *joins)
{
	char round[16], pid[16];
	char *const argv[] = { "program", "run", base, round, pid, NULL };

	if (joins)
		pthread_join(leader, NULL);
	usleep(1000);
	sprintf(round, "%d", atoi(getenv("TRACEE_ROUND") ? getenv("TRACEE_ROUND") : "0") + 1);
	setenv("TRACEE_ROUND", round, 1);
	sprintf(pid, "%d", getpid());
	setenv("TRACEE_PID", pid, 1);
	execv("program", argv);
	give_up("execv");
}

static void run(void)
{
	int round = atoi(getenv("TRACEE_ROUND") ? getenv("TRACEE_ROUND") : "0");
	pthread_t thread;

	if (round && atoi(getenv("TRACEE_PID")) != getpid())
		give_up("another process id");
	if (round == ROUNDS) {
		must(open("last", O_RDONLY));
		say("read", "busy");
		say("execute", "program");
		say("read", "last");
		return;
	}
	leader = pthread_self();
	for (int i = 0; i < 8; i++)
		pthread_create(&thread, NULL, busy, NULL);
	pthread_create(&thread, NULL, executes, round % 2 ? "" : NULL);
	if (round % 2)
		pthread_exit(NULL);
	pthread_join(thread, NULL);
}
