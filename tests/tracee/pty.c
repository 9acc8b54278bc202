/* Runs a command on a terminal of its own, as a shell with job control does, and
 * prints what happens to it:
 *
 *   pty STEP… -- COMMAND
 *
 * Steps: `see TEXT` waits until the command prints TEXT; `type KEYS` types (`^X`
 * is the control key); `stopped` waits until the job stops; `continue` is fg;
 * `ended` waits for its end. All that the command printed comes last. */
#define TRACEE_HAS_MAIN
#include "tracee.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

static char screen[1 << 16];
static size_t shown;
static int master;
static pid_t job;

/* Reads what is there, waiting for it up to a tenth of a second. */
static void read_more(void)
{
	struct pollfd fds = { master, POLLIN, 0 };

	if (poll(&fds, 1, 100) == 1) {
		ssize_t n = read(master, screen + shown, sizeof screen - 1 - shown);

		if (n > 0)
			shown += n;
		else
			usleep(1000);
	}
}

/* How long something may take, on a busy machine, too: a terminal that is hung up
 * answers at once, so that tries say nothing of time. */
#define PATIENCE 60

static void see(const char *text)
{
	time_t end = time(NULL) + PATIENCE;

	while (!strstr(screen, text) && time(NULL) < end)
		read_more();
	if (!strstr(screen, text)) {
		kill(-job, SIGKILL);
		errno = ETIMEDOUT;
		give_up("no `%s` in `%s`", text, screen);
	}
}

static void changed(int options)
{
	int status, found = 0;
	time_t end = time(NULL) + PATIENCE;

	while (!found && time(NULL) < end) {
		found = must(waitpid(job, &status, options | WNOHANG));
		read_more();
	}
	if (!found) {
		kill(-job, SIGKILL);
		errno = ETIMEDOUT;
		give_up("the job neither stops nor ends");
	}
	if (WIFSTOPPED(status))
		printf("stopped by %d\n", WSTOPSIG(status));
	else if (WIFSIGNALED(status))
		printf("ended by signal %d\n", WTERMSIG(status));
	else
		printf("ended with %d\n", WEXITSTATUS(status));
	printf("foreground %s\n", tcgetpgrp(must(open("/dev/tty", O_RDWR | O_CLOEXEC))) == job ?
	       "job" : "another");
}

static void foreground(pid_t group)
{
	int tty = must(open("/dev/tty", O_RDWR | O_CLOEXEC));

	signal(SIGTTOU, SIG_IGN);
	must(tcsetpgrp(tty, group));
	signal(SIGTTOU, SIG_DFL);
	must(close(tty));
}

static void start(char **argv)
{
	const char *name;
	int tty;

	master = must(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	must(grantpt(master));
	must(unlockpt(master));
	name = ptsname(master);
	if (setsid() == -1)
		give_up("setsid");
	tty = must(open(name, O_RDWR | O_CLOEXEC)); /* becomes the controlling terminal */
	job = must(fork());
	if (!job) {
		/* As a login has them: what runs the tests may ignore them. */
		for (int i = 0; i < 3; i++)
			signal((int[]){ SIGINT, SIGQUIT, SIGTSTP }[i], SIG_DFL);
		must(setpgid(0, 0));
		foreground(getpid());
		for (int fd = 0; fd < 3; fd++)
			must(dup2(tty, fd));
		execvp(argv[0], argv);
		give_up("%s", argv[0]);
	}
	setpgid(job, job);
}

int main(int argc, char **argv)
{
	int split = 1;

	while (split < argc && strcmp(argv[split], "--"))
		split++;
	if (split + 1 >= argc)
		give_up("usage: pty STEP... -- COMMAND");
	setbuf(stdout, NULL);
	/* A process group leader cannot make a session. */
	pid_t child = must(fork());

	if (child) {
		int status;

		must(waitpid(child, &status, 0));
		return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
	}
	start(argv + split + 1);
	for (char **step = argv + 1; step < argv + split; step++)
		if (!strncmp(*step, "see ", 4)) {
			see(*step + 4);
		} else if (!strncmp(*step, "type ", 5)) {
			for (const char *key = *step + 5; *key; key++) {
				char byte = *key == '^' ? *++key & 0x1f : *key;

				must(write(master, &byte, 1));
			}
		} else if (!strcmp(*step, "stopped")) {
			changed(WUNTRACED);
			foreground(getpgrp());
		} else if (!strcmp(*step, "continue")) {
			foreground(job);
			must(kill(-job, SIGCONT));
		} else if (!strcmp(*step, "ended")) {
			changed(0);
		} else {
			give_up("unknown step %s", *step);
		}
	for (int i = 0; i < 5; i++)
		read_more();
	printf("%s", screen);
}
