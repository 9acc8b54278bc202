/* inotify_add_watch, which names files; fanotify_mark needs root. */
#include "tracee.h"
#include <sys/inotify.h>
#include <sys/fanotify.h>

static void prepare(void)
{
	dir("d");
	file("inotify");
	file("d/fanotify");
	dir("watched");
}

static void run(void)
{
	int watch = must(inotify_init1(IN_CLOEXEC)), mark, d;

	must(inotify_add_watch(watch, "inotify", IN_MODIFY));
	must(inotify_add_watch(watch, "watched", IN_CREATE));
	fails(inotify_add_watch(watch, "no-inotify", IN_MODIFY), ENOENT);
	say("inspect", "inotify");
	say("inspect", "watched");
	say("absent", "no-inotify");
	mark = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);
	if (mark != -1) {
		d = must(open("d", O_PATH));
		must(fanotify_mark(mark, FAN_MARK_ADD, FAN_OPEN, d, "fanotify"));
		say("used", "d");
		say("inspect", "d/fanotify");
	}
}
