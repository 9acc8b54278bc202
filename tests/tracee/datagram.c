/* sendto with the name of an AF_UNIX socket. (sendmsg, whose address lies behind
 * a pointer, cannot be told from a plain send without stopping every one.) */
#include "tracee.h"
#include <sys/socket.h>
#include <sys/un.h>

static void prepare(void)
{
	struct sockaddr_un a = { AF_UNIX, "sendto" };

	must(bind(must(socket(AF_UNIX, SOCK_DGRAM, 0)), (void *)&a, sizeof a));
}

static void run(void)
{
	struct sockaddr_un a = { AF_UNIX, "sendto" };
	struct sockaddr_un none = { AF_UNIX, "no-socket" };
	int fd = must(socket(AF_UNIX, SOCK_DGRAM, 0));

	fails(sendto(fd, "x", 1, 0, (void *)&none, sizeof none), ENOENT);
	/* Nobody listens: the name is looked up all the same. */
	fails(sendto(fd, "x", 1, 0, (void *)&a, sizeof a), ECONNREFUSED);
	say("socket", "sendto");
	say("absent", "no-socket");
}
