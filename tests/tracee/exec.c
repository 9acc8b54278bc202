/* execve, execveat: of ELF files and of scripts, whose interpreters the kernel opens. */
#include "tracee.h"

static void script(const char *path, const char *format)
{
	int fd = must(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755));

	must(dprintf(fd, format, base));
	must(close(fd));
}

static void prepare(void)
{
	char space[1000];

	copy(self, "program");
	copy(self, "interpreter");
	copy(self, "descriptor");
	must(symlink("program", "link"));
	must(symlink("interpreter", "interpreter-link"));
	dir("d");
	copy(self, "d/execveat");
	script("plain", "#!%s/interpreter-link\n");
	script("spaces", "#! \t%s/interpreter \t one argument \n");
	script("no-newline", "#!%s/interpreter");
	script("level2", "#!%s/plain\n");
	script("level3", "#!%s/level2\n");
	script("level4", "#!%s/level3\n");
	script("relative", "#!interpreter\n");
	script("by-env", "#!/usr/bin/env -S true argument\n");
	script("broken", "#!/no/such/interpreter\n");
	file("not-executable");
	sprintf(space, "#!%%s/interpreter %0500d\n", 0); /* over 128 and 256 bytes */
	script("cut", space);
}

static void start(const char *path, int dirfd, int flags)
{
	char *const argv[] = { "program", NULL };
	pid_t child = must(fork());

	if (!child) {
		if (dirfd == AT_FDCWD)
			syscall(SYS_execve, path, argv, environ);
		else
			syscall(SYS_execveat, dirfd, path, argv, environ, flags);
		_exit(98);
	}
	reap(child, 0);
}

static void run(void)
{
	char *const argv[] = { "program", NULL };
	int d = must(open("d", O_PATH | O_CLOEXEC)), fd = must(open("descriptor", O_PATH));

	must(setenv("TRACEE_ENDS", "1", 1));
	start("link", AT_FDCWD, 0);
	start("execveat", d, AT_SYMLINK_NOFOLLOW);
	start("", fd, AT_EMPTY_PATH);
	start("spaces", AT_FDCWD, 0);
	start("no-newline", AT_FDCWD, 0);
	start("level4", AT_FDCWD, 0);
	start("relative", AT_FDCWD, 0);
	start("by-env", AT_FDCWD, 0);
	start("cut", AT_FDCWD, 0);
	fails(execv("broken", argv), ENOENT);
	fails(execv("not-executable", argv), EACCES);
	fails(execv("no-exec", argv), ENOENT);
	say("link", "link");
	say("execute", "program");
	say("execute", "d/execveat");
	say("used", "d");
	say("execute", "descriptor");
	say("execute", "spaces");
	say("execute", "no-newline");
	say("execute", "level4");
	say("interpret", "level3");
	say("interpret", "level2");
	say("interpret", "plain");
	say("link", "interpreter-link");
	say("interpret", "interpreter");
	say("execute", "relative");
	say("execute", "by-env");
	say("interpret", "/usr/bin/env");
	say("execute", "cut");
	say("used", "broken");
	say("used", "not-executable");
	say("absent", "no-exec");
}
