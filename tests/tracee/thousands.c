/* TRACEE_COUNT threads at once, each of which opens a file. */
#include "tracee.h"
#include <pthread.h>

static pthread_barrier_t barrier;

static void prepare(void)
{
	char name[16];

	for (int i = 0; i < 100; i++) {
		sprintf(name, "%d", i);
		file(name);
	}
}

static void *opener(void *argument)
{
	char name[16];

	pthread_barrier_wait(&barrier);
	sprintf(name, "%d", (int)(intptr_t)argument % 100);
	must(close(must(open(name, O_RDONLY))));
	return NULL;
}

static void run(void)
{
	int count = atoi(getenv("TRACEE_COUNT"));
	pthread_t threads[count];
	pthread_attr_t small;
	char name[16];

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 << 10);
	pthread_barrier_init(&barrier, NULL, count);
	for (int i = 0; i < count; i++)
		if ((errno = pthread_create(&threads[i], &small, opener, (void *)(intptr_t)i)))
			give_up("thread %d", i);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 100; i++) {
		sprintf(name, "%d", i);
		say("read", name);
	}
}
