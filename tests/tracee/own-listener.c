/* A program that watches its child's calls by a seccomp listener of its own:
 * the answers come from there, and the child's files are uses all the same. */
#include "tracee.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static void prepare(void)
{
	file("before");
	file("watched");
	file("answered");
	file("grandchild");
	file("looked-at");
	file("after");
}

static void pass(int socket, int fd)
{
	char room[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec byte = { "x", 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = room,
				  .msg_controllen = sizeof room };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	must(sendmsg(socket, &message, 0));
}

static int passed(int socket)
{
	char room[CMSG_SPACE(sizeof(int))], data;
	struct iovec byte = { &data, 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = room,
				  .msg_controllen = sizeof room };
	int fd;

	must(recvmsg(socket, &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static void watched(int socket)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	pid_t child;
	int listener;

	must(open("before", O_RDONLY));
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			   &program);
	if (listener == -1)
		give_up("a listener of its own");
	pass(socket, listener);
	close(listener);
	if (syscall(SYS_openat, AT_FDCWD, "watched", O_RDONLY) == -1)
		_exit(1);
	if (syscall(SYS_mkdir, "answered", 0755) != -1 || errno != EADV)
		_exit(2);
	child = fork();
	if (!child)
		_exit(syscall(SYS_openat, AT_FDCWD, "grandchild", O_RDONLY) == -1 ||
		      syscall(SYS_access, "looked-at", F_OK) == -1);
	int status;

	waitpid(child, &status, 0);
	_exit(status ? 3 : 0);
}

static void run(void)
{
	struct seccomp_notif_sizes sizes;
	int sockets[2], listener, calls = 0, status;
	pid_t child;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	child = must(fork());
	if (!child)
		watched(sockets[0]);
	must(close(sockets[0]));
	listener = passed(sockets[1]);
	must(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
	for (;;) {
		struct pollfd fds = { listener, POLLIN, 0 };
		struct seccomp_notif request = { 0 };
		struct seccomp_notif_resp response = { 0 };

		must(poll(&fds, 1, -1));
		if (!(fds.revents & POLLIN))
			break;
		if (syscall(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, &request) == -1)
			continue;
		calls++;
		response.id = request.id;
		if (request.data.nr == SYS_mkdir)
			response.error = -EADV;
		else
			response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		must(syscall(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &response));
	}
	must(waitpid(child, &status, 0));
	if (status || calls != 3)
		give_up("status %#x, %d calls", status, calls);
	must(open("after", O_RDONLY));
	say("read", "before");
	say("mapped", "watched");
	say("mapped", "grandchild");
	say("inspect", "looked-at");
	say("read", "after");
	say("optional", "answered");
	say("optional", ".");
}
