/* sendto, sendmsg, sendmmsg: datagrams to AF_UNIX sockets that have names. */
#include "tracee.h"
#include <sys/socket.h>
#include <sys/un.h>

static void prepare(void)
{
	static const char *const names[] = { "sendto", "sendmsg", "sendmmsg" };

	for (int i = 0; i < 3; i++) {
		struct sockaddr_un a = { .sun_family = AF_UNIX };

		strcpy(a.sun_path, names[i]);
		must(bind(must(socket(AF_UNIX, SOCK_DGRAM, 0)), (void *)&a, sizeof a));
	}
}

static void run(void)
{
	struct sockaddr_un a = { AF_UNIX, "sendto" }, b = { AF_UNIX, "sendmsg" },
			   c = { AF_UNIX, "sendmmsg" };
	struct msghdr message = { .msg_name = &b, .msg_namelen = sizeof b };
	struct mmsghdr messages = { .msg_hdr = { .msg_name = &c, .msg_namelen = sizeof c } };
	int fd = must(socket(AF_UNIX, SOCK_DGRAM, 0));

	/* Nobody listens: the names are looked up all the same. */
	fails(sendto(fd, "x", 1, 0, (void *)&a, sizeof a), ECONNREFUSED);
	fails(sendmsg(fd, &message, 0), ECONNREFUSED);
	fails(sendmmsg(fd, &messages, 1, 0), ECONNREFUSED);
	say("socket", "sendto");
	say("socket", "sendmsg");
	say("socket", "sendmmsg");
}
