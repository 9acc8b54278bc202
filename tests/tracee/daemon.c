/* A daemon: two forks, a session of its own, and the first process gone; it reads
 * a file once `release` is there. */
#include "tracee.h"

static void prepare(void)
{
	file("early");
	file("late");
	dir("run");
}

static void run(void)
{
	int status;
	pid_t child = must(fork());

	if (!child) {
		must(setsid());
		if (must(fork()))
			_exit(0);
		must(open("early", O_RDONLY));
		say("read", "early");
		say("read", "late");
		say("parent", "run");
		say("made", "run/pid");
		must(dprintf(must(creat("run/pid", 0644)), "%d\n", getpid()));
		for (int fd = 0; fd < 3; fd++)
			must(close(fd));
		if (getenv("TRACEE_WAITS"))
			while (access(getenv("TRACEE_WAITS"), F_OK))
				usleep(10000);
		else
			usleep(200000); /* the first process is gone by then */
		must(open("late", O_RDONLY));
		_exit(3);
	}
	must(waitpid(child, &status, 0));
}
