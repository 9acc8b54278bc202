/* Paths that end where mapped memory ends, and arguments that are no paths. */
#include "tracee.h"

static char *end; /* of the mapped memory */

static void prepare(void)
{
	file("at-the-end");
	file("across-pages");
	file("long");
	file("by-descriptor");
}

/* The path with its NUL in the last byte that can be read. */
static const char *last(const char *path)
{
	return strcpy(end - strlen(path) - 1, path);
}

static void run(void)
{
	char buffer[1024];
	char *pages = (void *)must(mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	int fd;

	end = pages + 3 * 4096;
	must(munmap(end, 4096));
	must(syscall(SYS_open, last("at-the-end"), O_RDONLY));
	must(syscall(SYS_open, strcpy(pages + 4096 - 5, "across-pages"), O_RDONLY));
	/* 4095 bytes, the longest path there is. */
	memset(pages, '/', 4095);
	memcpy(pages, ".", 1);
	strcpy(pages + 4095 - 4, "long");
	must(syscall(SYS_open, pages, O_RDONLY));
	memset(pages, '/', 4096);
	strcpy(pages + 4096 - 4, "long");
	fails(syscall(SYS_open, pages, O_RDONLY), ENAMETOOLONG);
	memset(end - 4, 'x', 4); /* no NUL before the end */
	fails(syscall(SYS_open, end - 4, O_RDONLY), EFAULT);
	fails(syscall(SYS_open, NULL, O_RDONLY), EFAULT);
	fails(syscall(SYS_open, end, O_RDONLY), EFAULT);
	fails(syscall(SYS_open, (char *)-1L, O_RDONLY), EFAULT);
	fails(syscall(SYS_open, "", O_RDONLY), ENOENT);
	fails(syscall(SYS_statx, -1, "", 0, 0, buffer), ENOENT);
	fd = must(open("by-descriptor", O_RDWR));
	must(futimens(fd, now)); /* utimensat with no path */
	fails(syscall(SYS_execve, NULL, NULL, NULL), EFAULT);
	fails(syscall(SYS_rename, "at-the-end", NULL), EFAULT);
	say("read", "at-the-end");
	say("read", "across-pages");
	say("read", "long");
	say("used", "by-descriptor");
}
