/* One thread changes the directory that all of its process share, another
 * opens; a third has a directory of its own (unshare(CLONE_FS)). */
#include "tracee.h"
#include <pthread.h>

static pthread_barrier_t barrier;

static void prepare(void)
{
	dir("one");
	file("one/same");
	file("one/only-one");
	dir("two");
	file("two/same");
	file("two/only-two");
	dir("alone");
	file("alone/own");
	dir("forked");
	file("forked/shared");
}

static void *changer(void *argument)
{
	must(chdir("one"));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	must(chdir("../two"));
	pthread_barrier_wait(&barrier);
	return argument;
}

static void *loner(void *argument)
{
	must(unshare(CLONE_FS));
	must(chdir("../alone"));
	must(open("own", O_RDONLY));
	return argument;
}

static int shares(void *argument)
{
	(void)argument;
	must(chdir("../forked"));
	return 0;
}

static void run(void)
{
	static char stack[1 << 16] __attribute__((aligned(16)));
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, changer, NULL);
	pthread_barrier_wait(&barrier);
	must(open("only-one", O_RDONLY));
	must(open("same", O_RDONLY));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	must(open("only-two", O_RDONLY));
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, loner, NULL);
	pthread_join(thread, NULL);
	must(open("only-two", O_RDONLY)); /* the loner moved only itself */
	/* A process of its own, without CLONE_THREAD, but with CLONE_FS. */
	reap(must(clone(shares, stack + sizeof stack, CLONE_FS | SIGCHLD, NULL)), 0);
	must(open("shared", O_RDONLY));
	say("enter", "one");
	say("enter", "two");
	say("enter", "alone");
	say("enter", "forked");
	say("read", "one/only-one");
	say("read", "one/same");
	say("read", "two/only-two");
	say("read", "alone/own");
	say("read", "forked/shared");
	say("absent", "two/same");
}
