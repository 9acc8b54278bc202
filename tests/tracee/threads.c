/* 16 threads open and look at files, TRACEE_COUNT times each. */
#include "tracee.h"
#include <pthread.h>

enum { THREADS = 16, FILES = 64 };

static void prepare(void)
{
	char name[32];

	for (int t = 0; t < THREADS; t++) {
		sprintf(name, "%d", t);
		dir(name);
		for (int f = 0; f < FILES; f++) {
			sprintf(name, "%d/%d", t, f);
			file(name);
		}
	}
}

static void *opener(void *argument)
{
	int t = (intptr_t)argument, count = atoi(getenv("TRACEE_COUNT"));
	char name[32];

	for (int i = 0; i < count; i++) {
		sprintf(name, "%d/%d", t, i % FILES);
		must(close(must(open(name, O_RDONLY))));
	}
	return NULL;
}

static void run(void)
{
	pthread_t threads[THREADS];
	char name[32];

	for (int t = 0; t < THREADS; t++)
		pthread_create(&threads[t], NULL, opener, (void *)(intptr_t)t);
	for (int t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	for (int t = 0; t < THREADS; t++)
		for (int f = 0; f < FILES; f++) {
			sprintf(name, "%d/%d", t, f);
			say("read", name);
		}
}
