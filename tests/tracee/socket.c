/* AF_UNIX bind makes a file, connect uses one; abstract names are none. */
#include "tracee.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <stddef.h>

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	strcpy(a.sun_path, path);
	return a;
}

static int bound(const char *path, int type)
{
	struct sockaddr_un a = address(path);
	int fd = must(socket(AF_UNIX, type, 0));

	must(bind(fd, (void *)&a, sizeof a));
	return fd;
}

static void prepare(void)
{
	dir("for-bind");
	bound("deaf", SOCK_STREAM);
}

static void run(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int server, fd = must(socket(AF_UNIX, SOCK_STREAM, 0));

	server = bound("for-bind/made", SOCK_STREAM);
	must(listen(server, 5));
	a = address("for-bind/made");
	must(connect(fd, (void *)&a, sizeof a));
	a = address("deaf");
	fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
	fails(connect(fd, (void *)&a, sizeof a), ECONNREFUSED);
	a = address("no-socket");
	fails(connect(fd, (void *)&a, sizeof a), ENOENT);
	fd = must(socket(AF_UNIX, SOCK_DGRAM, 0));
	a = address("");
	sprintf(a.sun_path + 1, "vz-tracee-%d", getpid());
	must(bind(fd, (void *)&a, offsetof(struct sockaddr_un, sun_path) + 20));
	say("parent", "for-bind");
	say("made", "for-bind/made");
	say("socket", "deaf");
	say("absent", "no-socket");
}
