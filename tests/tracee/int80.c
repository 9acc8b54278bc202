/* A 64-bit program that calls by int 0x80: the numbers and arguments are i386's. */
#include "tracee.h"

static void prepare(void)
{
	file("open");
	file("stat");
	file("then");
}

static long int80(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static void run(void)
{
	char *low = (void *)must(mmap(NULL, 8192, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));

	strcpy(low, "open");
	errno = 0;
	if (int80(5, (long)low, O_RDONLY, 0) < 0) /* 5: open; fstat as x86-64 */
		give_up("int 0x80 open");
	strcpy(low, "stat");
	if (int80(195, (long)low, (long)low + 4096, 0) < 0) /* 195: stat64 */
		give_up("int 0x80 stat64");
	if (int80(20, 0, 0, 0) != getpid()) /* 20: getpid; writev as x86-64 */
		give_up("int 0x80 getpid");
	must(open("then", O_RDONLY));
	say("read", "open");
	say("inspect", "stat");
	say("read", "then");
}
