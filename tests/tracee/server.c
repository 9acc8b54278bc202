/* A TCP server on TRACEE_PORT that reads `page` for each client, and `shutdown`
 * on SIGTERM; it makes `ready` when it listens. TRACEE_STUBBORN: no SIGTERM. */
#include "tracee.h"
#include <arpa/inet.h>
#include <poll.h>

static volatile sig_atomic_t ended;

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

static void prepare(void)
{
	file("page");
	file("shutdown");
	dir("run");
}

static void run(void)
{
	struct sigaction action = { .sa_handler = getenv("TRACEE_STUBBORN") ? SIG_IGN : end };
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(atoi(getenv("TRACEE_PORT"))) };
	int client, one = 1, server = must(socket(AF_INET, SOCK_STREAM, 0));
	sigset_t term, old;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	must(sigprocmask(SIG_BLOCK, &term, &old));
	must(sigaction(SIGTERM, &action, NULL));
	must(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
	must(bind(server, (void *)&address, sizeof address));
	must(listen(server, 5));
	must(close(must(creat("run/ready", 0644))));
	while (!ended) {
		struct pollfd fds = { server, POLLIN, 0 };

		if (ppoll(&fds, 1, NULL, &old) == 1) {
			client = must(accept(server, NULL, NULL));
			must(close(must(open("page", O_RDONLY))));
			must(dprintf(client, "hello\n"));
			must(close(client));
		}
	}
	must(open("shutdown", O_RDONLY));
	say("read", "page");
	say("read", "shutdown");
	say("parent", "run");
	say("made", "run/ready");
}
