/* i386's one call for all socket calls. */
#include "tracee.h"
#include <linux/net.h>
#include <sys/socket.h>
#include <sys/un.h>

static void prepare(void)
{
	struct sockaddr_un a = { AF_UNIX, "deaf" };

	must(bind(must(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&a, sizeof a));
	dir("for-bind");
}

static void run(void)
{
	struct sockaddr_un a = { AF_UNIX, "deaf" }, b = { AF_UNIX, "for-bind/made" };
	unsigned long arguments[3] = { AF_UNIX, SOCK_STREAM, 0 };
	int fd = must(syscall(SYS_socketcall, SYS_SOCKET, arguments));

	arguments[0] = fd;
	arguments[1] = (uintptr_t)&a;
	arguments[2] = sizeof a;
	fails(syscall(SYS_socketcall, SYS_CONNECT, arguments), ECONNREFUSED);
	arguments[1] = (uintptr_t)&b;
	must(syscall(SYS_socketcall, SYS_BIND, arguments));
	say("socket", "deaf");
	say("parent", "for-bind");
	say("made", "for-bind/made");
}
