/* A file opened and one looked at by io_uring, which no tracer sees; where there
 * is no io_uring, by plain calls, as programs do. */
#include "tracee.h"
#include <linux/io_uring.h>

static void prepare(void)
{
	file("file");
	file("looked-at");
}

/* Does one operation in a ring of its own; its result. */
static int operate(struct io_uring_sqe sqe)
{
	struct io_uring_params p = { 0 };
	int ring = syscall(SYS_io_uring_setup, 4, &p);
	char *sq, *cq;
	struct io_uring_sqe *sqes;

	if (ring == -1)
		return -errno;
	sq = (void *)must(mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE,
			       MAP_SHARED, ring, IORING_OFF_SQ_RING));
	cq = (void *)must(mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
			       PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING));
	sqes = (void *)must(mmap(NULL, p.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE,
				 MAP_SHARED, ring, IORING_OFF_SQES));
	sqes[0] = sqe;
	*(unsigned *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	must(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	int result = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res;

	must(close(ring));
	return result;
}

static void run(void)
{
	char buffer[256];
	int fd = operate((struct io_uring_sqe){ .opcode = IORING_OP_OPENAT,
						.fd = AT_FDCWD,
						.addr = (uintptr_t) "file",
						.open_flags = O_RDONLY });
	int found = operate((struct io_uring_sqe){ .opcode = IORING_OP_STATX,
						   .fd = AT_FDCWD,
						   .addr = (uintptr_t) "looked-at",
						   .len = STATX_BASIC_STATS,
						   .off = (uintptr_t)buffer });

	if (fd == -ENOSYS && found == -ENOSYS) {
		must(open("file", O_RDONLY));
		must(access("looked-at", F_OK));
		say("read", "file");
		say("inspect", "looked-at");
	} else if (fd >= 0 && found == 0) {
		say("unseen", "io-uring");
	} else {
		errno = fd < 0 ? -fd : -found;
		give_up("io_uring");
	}
}
