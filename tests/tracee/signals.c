/* Sends itself and its children signals of every kind and prints what arrives;
 * the same lines come out traced and untraced. */
#include "tracee.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <time.h>

/* Sets the trap flag, out of the red zone's way. */
#ifdef __x86_64__
#define STEP "sub $256, %%rsp; pushf; orq $0x100, (%%rsp); popf; nop; add $256, %%rsp"
#else
#define STEP "pushf; orl $0x100, (%%esp); popf; nop"
#endif

static volatile sig_atomic_t arrived;
static pid_t sender;
static sigjmp_buf after;

static void prepare(void)
{
	file("file");
}

static void show(int signal, siginfo_t *info, void *context)
{
	(void)context;
	arrived++;
	dprintf(1, "signal %d code %d value %d from %s\n", signal, info->si_code,
		info->si_value.sival_int, info->si_pid == getpid() ? "self" :
		info->si_pid == sender && sender	       ? "sender" : "another");
}

static void fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	dprintf(1, "fault %d code %d address %#lx\n", signal, info->si_code,
		signal == SIGSEGV ? (unsigned long)info->si_addr : 0);
	siglongjmp(after, 1);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	must(sigaction(signal, &action, NULL));
}

static void values(void)
{
	union sigval value = { .sival_int = 0x0180057f };
	sigset_t all, old;
	int status;

	for (int s = SIGRTMIN; s <= SIGRTMAX; s++) {
		handle(s, show, 0);
		value.sival_int++;
		must(sigqueue(getpid(), s, value));
	}
	/* Queued in order while blocked, then all at once; from a child, too. */
	sigfillset(&all);
	must(sigprocmask(SIG_BLOCK, &all, &old));
	for (int i = 0; i < 5; i++) {
		value.sival_int = i;
		must(sigqueue(getpid(), SIGRTMIN + i % 2, value));
	}
	pid_t parent = getpid();

	sender = must(fork());
	if (!sender) {
		value.sival_int = 77;
		must(sigqueue(parent, SIGRTMAX, value));
		_exit(0);
	}
	must(waitpid(sender, &status, 0));
	must(sigprocmask(SIG_SETMASK, &old, NULL));
	dprintf(1, "arrived %d\n", arrived);
	for (int s = 32; s < 34; s++) /* those that libc keeps for itself, ignored here */
		dprintf(1, "signal %d: %d\n", s, (int)syscall(SYS_kill, 1 << 30, s));
}

static void traps(void)
{
	static const int codes[] = { 0, 5, 0x80, 0x105, 0x8005, 1 << 8 | SIGTRAP, -1 };
	union sigval value;

	handle(SIGTRAP, show, 0);
	must(raise(SIGTRAP));
	must(kill(getpid(), SIGTRAP));
	for (int i = 0; i < 7; i++) {
		value.sival_int = codes[i];
		must(sigqueue(getpid(), SIGTRAP, value));
	}
	handle(SIGTRAP, fault, 0);
	if (!sigsetjmp(after, 1))
		__asm__ volatile("int3");
	if (!sigsetjmp(after, 1)) /* a single step */
		__asm__ volatile(STEP : : : "memory", "cc");
	handle(SIGILL, fault, 0);
	if (!sigsetjmp(after, 1))
		__asm__ volatile("ud2");
	handle(SIGSEGV, fault, 0);
	if (!sigsetjmp(after, 1))
		*(volatile int *)0x1238 = 1;
	handle(SIGFPE, fault, 0);
	if (!sigsetjmp(after, 1)) {
		volatile int dividend = 1, zero = 0;

		dprintf(1, "%d\n", dividend / zero);
	}
}

/* How a child that does what it can is seen to stop and to go on. */
static void stops(void)
{
	static const int kinds[] = { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU };
	siginfo_t info;
	int status, pipes[2];
	char go = 0;

	for (int i = 0; i < 4; i++) {
		must(pipe(pipes));
		pid_t child = must(fork());

		if (!child) {
			must(setpgid(0, 0));
			if (kinds[i] != SIGSTOP)
				must(signal(kinds[i], SIG_DFL));
			for (int n = 0; n < 3; n++) {
				must(raise(kinds[i]));
				must(open("file", O_RDONLY));
				/* Not stopped again before its going on was seen. */
				must(read(pipes[0], &go, 1));
			}
			_exit(40 + i);
		}
		for (int n = 0; n < 3; n++) {
			must(waitpid(child, &status, WUNTRACED));
			dprintf(1, "stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
			must(kill(child, SIGCONT));
			must(waitid(P_PID, child, &info, WCONTINUED));
			dprintf(1, "continued: code %d status %d\n", info.si_code, info.si_status);
			must(write(pipes[1], &go, 1));
		}
		must(waitpid(child, &status, 0));
		dprintf(1, "status %#x\n", status);
	}
}

/* A stop in the middle of a sleep does not cut it, nor a stopped child's death. */
static void asleep(void)
{
	struct timespec start, end, second = { .tv_nsec = 300000000 };
	int status;
	pid_t child = must(fork());

	if (!child) {
		must(clock_gettime(CLOCK_MONOTONIC, &start));
		must(nanosleep(&second, NULL));
		must(clock_gettime(CLOCK_MONOTONIC, &end));
		long passed = (end.tv_sec - start.tv_sec) * 1000 +
			      (end.tv_nsec - start.tv_nsec) / 1000000;
		_exit(passed < 299);
	}
	must(usleep(50000));
	must(kill(child, SIGSTOP));
	must(waitpid(child, &status, WUNTRACED));
	dprintf(1, "stopped %d\n", WIFSTOPPED(status));
	must(kill(child, SIGCONT));
	must(waitpid(child, &status, 0));
	dprintf(1, "slept %#x\n", status);

	child = must(fork());
	if (!child)
		for (;;)
			pause();
	must(kill(child, SIGSTOP));
	must(waitpid(child, &status, WUNTRACED));
	must(kill(child, SIGTERM)); /* waits for the child to go on */
	must(usleep(20000));
	dprintf(1, "still there: %d\n", waitpid(child, &status, WNOHANG));
	must(kill(child, SIGCONT));
	must(waitpid(child, &status, 0));
	dprintf(1, "ended %#x\n", status);

	child = must(fork());
	if (!child)
		for (;;)
			pause();
	must(kill(child, SIGSTOP));
	must(waitpid(child, &status, WUNTRACED));
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
	dprintf(1, "killed while stopped %#x\n", status);
}

static void *opens(void *argument)
{
	for (;;)
		close(open("file", O_RDONLY));
	return argument;
}

/* A stop of a process with several threads, all of them busy. */
static void threads(void)
{
	pthread_t thread;
	int status;
	pid_t child = must(fork());

	if (!child) {
		for (int i = 0; i < 4; i++)
			pthread_create(&thread, NULL, opens, NULL);
		opens(NULL);
	}
	for (int i = 0; i < 20; i++) {
		must(kill(child, SIGSTOP));
		must(waitpid(child, &status, WUNTRACED));
		if (!WIFSTOPPED(status))
			give_up("status %#x", status);
		must(kill(child, SIGCONT));
		must(waitpid(child, &status, WCONTINUED));
		if (!WIFCONTINUED(status))
			give_up("status %#x", status);
	}
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
	dprintf(1, "threads killed %#x\n", status);
}

/* SIGKILL at any moment: in exec, in fork, in any stop. */
static void kills(void)
{
	char *const argv[] = { (char *)self, NULL };
	int status;

	must(setenv("TRACEE_ENDS", "1", 1));
	for (int i = 0; i < 200; i++) {
		pid_t child = must(fork());

		if (!child)
			for (;;) {
				pid_t grandchild = vfork();

				if (!grandchild) {
					execv(self, argv);
					_exit(0);
				}
				close(open("file", O_RDONLY));
				wait(NULL);
			}
		usleep(i * 37 % 3000);
		must(kill(child, SIGKILL));
		must(waitpid(child, &status, 0));
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			give_up("status %#x", status);
	}
	dprintf(1, "all killed\n");
}

static void run(void)
{
	values();
	traps();
	stops();
	asleep();
	threads();
	kills();
}
