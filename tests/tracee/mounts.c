/* Mounts of the run's own: a bind mount, a tmpfs, a new root. What is below them
 * has another name on the machine, or none. */
#include "tracee.h"
#include <sys/mount.h>

static void prepare(void)
{
	dir("source");
	file("source/bound");
	dir("bind");
	file("bind/hidden");
	dir("tmpfs");
	dir("root");
	dir("root/etc");
	file("root/etc/file");
	file("after");
}

/* A mount namespace; without root, as root of a user namespace. */
static void namespaces(void)
{
	int map, user = geteuid();

	must(unshare(user ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS));
	if (user) {
		map = must(open("/proc/self/uid_map", O_WRONLY));
		must(dprintf(map, "0 %d 1", user));
		must(close(map));
	}
}

static void run(void)
{
	pid_t child = must(fork());

	if (!child) {
		namespaces();
		must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must(mount("source", "bind", NULL, MS_BIND, NULL));
		must(open("bind/bound", O_RDONLY));
		must(mount("tmpfs", "tmpfs", "tmpfs", 0, NULL));
		/* The group is not mapped, so that nothing can be made without root. */
		if (mkdir("tmpfs/made", 0755) != -1) {
			must(open("tmpfs/made/file", O_CREAT | O_RDWR, 0644));
			must(open("tmpfs/made/file", O_RDONLY));
		}
		must(mount("root", "root", NULL, MS_BIND, NULL));
		must(chdir("root"));
		must(syscall(SYS_pivot_root, ".", "."));
		must(umount2(".", MNT_DETACH));
		must(chdir("/"));
		must(open("/etc/file", O_RDONLY));
		_exit(0);
	}
	reap(child, 0);
	must(open("after", O_RDONLY));
	say("mapped", "source/bound");
	say("used", "source");
	say("used", "bind");
	say("used", "tmpfs");
	say("used", "root");
	say("mapped", "root/etc/file");
	say("absent", "/etc/file");
	say("absent", "bind/bound");
	say("absent", "tmpfs/made");
	say("absent", "tmpfs/made/file");
	say("read", "after");
}
