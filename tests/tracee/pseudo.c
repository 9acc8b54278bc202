/* Pseudo files are told by the type of their file system, not by their name. */
#include "tracee.h"
#include <dirent.h>

static void prepare(void)
{
	dir("proc");
	file("proc/version");
	dir("dev");
	file("dev/null");
	must(symlink("/proc/version", "link"));
	must(symlink("/proc/self/cwd/through", "magic"));
	file("through");
}

static void run(void)
{
	must(open("/proc/self/status", O_RDONLY));
	must(open("/proc/version", O_RDONLY));
	must(open("/dev/null", O_RDWR));
	must(access("/sys/kernel", F_OK));
	must(open("proc/version", O_RDONLY));
	must(open("dev/null", O_RDONLY));
	must(open("link", O_RDONLY));
	must(open("magic", O_RDONLY));
	must(closedir((DIR *)must(opendir("/proc/self/fd"))));
	say("pseudo", "/proc/version");
	say("pseudo", "/dev/null");
	say("pseudo", "/sys/kernel");
	say("read", "proc/version");
	say("read", "dev/null");
	say("link", "link");
	say("link", "magic");
	say("read", "through");
	say("absent", "/proc/self");
	say("absent", "/proc/self/cwd");
	say("absent", "/proc/self/status");
}
