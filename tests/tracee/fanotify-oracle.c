/* Runs a command and prints every regular file that it, or the kernel for it,
 * opened: the kernel's own account, by a fanotify mark on each mount.
 *
 *   fanotify-oracle MOUNT… -- COMMAND        prints `open PATH` and `exec PATH`
 *                                            on descriptor 3
 *
 * In a mount namespace of its own (unshare -m), only the command's opens are
 * seen. Needs CAP_SYS_ADMIN. */
#define TRACEE_HAS_MAIN
#include "tracee.h"
#include <poll.h>
#include <sys/fanotify.h>

static int report;

static void show(const struct fanotify_event_metadata *event)
{
	char link[64], path[PATH_MAX + 1];
	struct stat st;
	ssize_t n;

	if (event->mask & FAN_Q_OVERFLOW) {
		errno = EOVERFLOW;
		give_up("fanotify lost events");
	}
	sprintf(link, "/proc/self/fd/%d", event->fd);
	n = must(readlink(link, path, PATH_MAX));
	path[n] = 0;
	must(fstat(event->fd, &st));
	/* A file deleted by now has no name to compare. */
	if (S_ISREG(st.st_mode) && st.st_nlink)
		must(dprintf(report, "%s %s\n", event->mask & FAN_OPEN_EXEC ? "exec" : "open", path));
	must(close(event->fd));
}

static void drain(int fan)
{
	static char room[1 << 16] __attribute__((aligned(8)));
	ssize_t n = read(fan, room, sizeof room);

	if (n == -1 && errno == EAGAIN)
		return;
	must(n);
	for (struct fanotify_event_metadata *e = (void *)room; FAN_EVENT_OK(e, n);
	     e = FAN_EVENT_NEXT(e, n))
		show(e);
	drain(fan);
}

int main(int argc, char **argv)
{
	int i = 1, status, ended = 0;
	int fan = must(fanotify_init(FAN_CLASS_NOTIF | FAN_UNLIMITED_QUEUE | FAN_CLOEXEC |
				     FAN_NONBLOCK, O_RDONLY | O_LARGEFILE | O_CLOEXEC));
	pid_t child;

	report = must(fcntl(3, F_DUPFD_CLOEXEC, 10));
	must(close(3));
	for (; i < argc && strcmp(argv[i], "--"); i++)
		must(fanotify_mark(fan, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN | FAN_OPEN_EXEC,
				   AT_FDCWD, argv[i]));
	if (i + 1 >= argc)
		give_up("usage: fanotify-oracle MOUNT... -- COMMAND");
	child = must(fork());
	if (!child) {
		execvp(argv[i + 1], argv + i + 1);
		give_up("%s", argv[i + 1]);
	}
	while (!ended) {
		struct pollfd fds = { fan, POLLIN, 0 };

		must(poll(&fds, 1, 20));
		ended = must(waitpid(child, &status, WNOHANG));
		drain(fan);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
