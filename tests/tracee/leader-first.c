/* The main thread goes first; the others work on, start children, and end the
 * process. */
#include "tracee.h"
#include <pthread.h>

static pthread_t leader;

static void prepare(void)
{
	file("thread");
	file("child");
	dir("directory");
	file("directory/relative");
}

static void *works(void *argument)
{
	pid_t child;

	pthread_join(leader, NULL);
	usleep(20000); /* the leader is a zombie now */
	must(open("thread", O_RDONLY));
	child = must(fork());
	if (!child) {
		must(open("child", O_RDONLY));
		_exit(0);
	}
	reap(child, 0);
	must(chdir("directory"));
	must(open("relative", O_RDONLY));
	say("read", "thread");
	say("read", "child");
	say("enter", "directory");
	say("read", "directory/relative");
	exit(argument ? 1 : 0);
}

static void run(void)
{
	pthread_t thread;

	leader = pthread_self();
	pthread_create(&thread, NULL, works, NULL);
	pthread_exit(NULL);
}
