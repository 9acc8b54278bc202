/* Starts TRACEE_COUNT processes one after the other; says how the memory of its
 * parent, the tracer, grew from the first tenth to the end, in KiB. */
#include "tracee.h"

static void prepare(void)
{
	file("file");
}

static long peak(void)
{
	char line[256], path[64];
	long kib = -1;
	FILE *in;

	sprintf(path, "/proc/%d/status", getppid());
	in = fopen(path, "r");
	while (in && fgets(line, sizeof line, in))
		sscanf(line, "VmHWM: %ld", &kib);
	if (kib == -1)
		give_up("%s", path);
	fclose(in);
	return kib;
}

static void run(void)
{
	int count = atoi(getenv("TRACEE_COUNT")), status;
	char *const argv[] = { "x", NULL };
	static long early; /* vfork must not lose it */

	must(setenv("TRACEE_ENDS", "1", 1));
	for (int i = 0; i < count; i++) {
		pid_t child;

		if (i == count / 10)
			early = peak();
		child = vfork();
		if (!child) {
			if (i % 100 == 0)
				execv(self, argv);
			_exit(open("file", O_RDONLY) < 0);
		}
		must(child);
		must(waitpid(child, &status, 0));
		if (status)
			give_up("status %#x", status);
	}
	dprintf(1, "%ld %ld\n", early, peak());
}
