/* name_to_handle_at names a file; open_by_handle_at (root) opens one unnamed. */
#include "tracee.h"

static void prepare(void)
{
	dir("d");
	file("d/handle");
	file("opened");
}

static void run(void)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ] = { 0 };
	struct file_handle *handle = (void *)room;
	int mount, d = must(open("d", O_RDONLY));

	handle->handle_bytes = MAX_HANDLE_SZ;
	must(name_to_handle_at(d, "handle", handle, &mount, 0));
	say("inspect", "d/handle");
	say("used", "d");
	handle->handle_bytes = MAX_HANDLE_SZ;
	must(name_to_handle_at(AT_FDCWD, "opened", handle, &mount, 0));
	if (open_by_handle_at(d, handle, O_RDONLY) != -1)
		say("read", "opened");
	else if (errno != EPERM)
		give_up("open_by_handle_at");
	say("inspect", "opened");
	handle->handle_bytes = MAX_HANDLE_SZ;
	fails(name_to_handle_at(d, "no-handle", handle, &mount, 0), ENOENT);
	say("absent", "d/no-handle");
}
