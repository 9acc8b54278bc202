/* Says who it is; as a set-user-id program, whether that took effect. */
#include "tracee.h"
#include <sys/auxv.h>

static void prepare(void)
{
}

static void run(void)
{
	dprintf(1, "real %d effective %d secure %lu\n", getuid(), geteuid(), getauxval(AT_SECURE));
}
