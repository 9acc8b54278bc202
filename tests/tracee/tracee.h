/* What every tracee shares. A tracee runs twice: `TRACEE prepare DIR` makes the
 * files that are to be there before the run, untraced; `TRACEE run DIR` is
 * traced, and says, one line each, what a tracer ought to see:
 *
 *   used PATH       in the spec (or, to name the kind of use as well: execute,
 *                   interpret, read, write, inspect, list, enter, link, parent,
 *                   socket)
 *   absent PATH     not in the spec
 *   made PATH       not in the spec, and among the created
 *   changed PATH    in the spec, with its original content kept
 *   deleted PATH    the same, for what is gone or elsewhere afterwards
 *   mapped PATH     in the spec, or something is said to be unseen
 *   pseudo PATH     not in the spec, and among the pseudo files
 *   optional PATH   either
 *   unseen KIND     said to be unseen
 *
 * Bytes of PATH that are not printable are written \xHH. A path without a
 * leading slash lies in DIR. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[PATH_MAX]; /* the prepared directory */
__attribute__((unused)) static const char *self; /* this executable */
static int say_to = 1; /* where say() writes */

/* Ends the tracee: what it is about did not work, traced or not. */
__attribute__((unused, noreturn, format(printf, 1, 2))) static void
give_up(const char *format, ...)
{
	int error = errno;
	va_list list;

	va_start(list, format);
	vdprintf(2, format, list);
	va_end(list);
	dprintf(2, ": %s\n", strerror(error));
	_exit(99);
}

__attribute__((unused)) static long
check(long result, int line, const char *what)
{
	if (result == -1)
		give_up("line %d: %s", line, what);
	return result;
}
/* The call must succeed; its result. */
#define must(call) check((long)(call), __LINE__, #call)
/* The call must fail with this errno. */
#define fails(call, error)                                                    \
	do {                                                                  \
		errno = 0;                                                    \
		if ((long)(call) != -1 || errno != (error))                   \
			give_up("line %d: not %s: %s", __LINE__, #error, #call); \
	} while (0)

/* Says a line, by one write(2) without a buffer, so that threads and forks may. */
__attribute__((unused)) static void say(const char *word, const char *path)
{
	static __thread char line[8 * PATH_MAX];
	char *end = line;
	const char *parts[3] = { path[0] == '/' ? "" : base,
				 path[0] == '/' || !strcmp(path, ".") ? "" : "/",
				 strcmp(path, ".") ? path : "" };

	end += sprintf(end, "%s ", word);
	if (!strcmp(word, "unseen"))
		parts[0] = parts[1] = "";
	for (int i = 0; i < 3; i++)
		for (const unsigned char *p = (const void *)parts[i]; *p; p++)
			if (*p > ' ' && *p < 127 && *p != '\\')
				*end++ = *p;
			else
				end += sprintf(end, "\\x%02x", *p);
	*end++ = '\n';
	if (write(say_to, line, end - line) != end - line)
		give_up("write");
}

/* Makes a file with some content of its own. */
__attribute__((unused)) static void file(const char *path)
{
	int fd = must(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));

	must(dprintf(fd, "original of %s\n", path));
	must(close(fd));
}

__attribute__((unused)) static void dir(const char *path)
{
	must(mkdir(path, 0755));
}

/* Makes `to` a copy of a file, with its mode. */
__attribute__((unused)) static void copy(const char *from, const char *to)
{
	char buffer[1 << 16];
	struct stat st;
	ssize_t n;
	int in = must(open(from, O_RDONLY | O_CLOEXEC)), out;

	must(fstat(in, &st));
	out = must(open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 07777));
	while ((n = must(read(in, buffer, sizeof buffer))) > 0)
		must(write(out, buffer, n));
	must(close(in));
	must(close(out));
}

/* Waits for a child, which must exit with this status. */
__attribute__((unused)) static void reap(pid_t child, int expected)
{
	int status;

	must(waitpid(child, &status, __WALL));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != expected) {
		errno = 0;
		give_up("child %d: status %#x", child, status);
	}
}

#ifndef TRACEE_HAS_MAIN /* a driver, which is no tracee itself */
static void prepare(void);
static void run(void);

int main(int argc, char **argv)
{
	if (getenv("TRACEE_ENDS")) /* a copy of a tracee, for one to execute */
		return 0;
	if (argc < 3)
		give_up("usage: prepare|run DIR");
	self = argv[0];
	if (!realpath(argv[2], base))
		give_up("%s", argv[2]);
	must(chdir(base));
	umask(022);
	(strcmp(argv[1], "run") ? prepare : run)();
	return 0;
}
#endif
