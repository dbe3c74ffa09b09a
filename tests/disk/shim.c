/*
 * Has calls on chosen files fail, as a bad disk does. The test compiles this into a library that
 * LD_PRELOAD puts before libc (shim.rs).
 *
 * The file that DISK_FAULTS names has a line for each fault: which call fails (read, write or sync), on
 * which file (a pattern of fnmatch(3) for its name without its directory), and with which number of
 * error. Without that file nothing fails. It is looked for at each call, so that faults come and go
 * while the program runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static const char *faults;

__attribute__((constructor)) static void begin(void)
{
	faults = getenv("DISK_FAULTS");
}

/* The name of an open file without its directory, in the buffer that is lent. */
static const char *name_of(int fd, char *path, size_t size)
{
	char link[64];
	ssize_t length;
	const char *slash;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, size - 1);
	if (length < 0)
		return NULL;
	path[length] = '\0';
	slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* The faults, as text. Past this library's own read(). */
static int read_faults(char *text, size_t size)
{
	ssize_t length;
	int file;

	if (faults == NULL || access(faults, F_OK) != 0)
		return 0;
	file = (int)syscall(SYS_openat, AT_FDCWD, faults, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return 0;
	length = syscall(SYS_read, file, text, size - 1);
	syscall(SYS_close, file);
	if (length < 0)
		return 0;
	text[length] = '\0';
	return 1;
}

/* Whether the call is to fail. errno is then set, and otherwise as it was. */
static int fails(const char *call, int fd)
{
	char text[1024], path[PATH_MAX], which[8], pattern[64];
	const char *line, *name;
	int before = errno, number = 0, error;

	if (read_faults(text, sizeof text) && (name = name_of(fd, path, sizeof path)) != NULL) {
		for (line = text; line != NULL; line = strchr(line + 1, '\n')) {
			if (sscanf(line, "%7s %63s %d", which, pattern, &error) == 3 &&
			    strcmp(which, call) == 0 && fnmatch(pattern, name, 0) == 0) {
				number = error;
				break;
			}
		}
	}
	errno = number != 0 ? number : before;
	return number != 0;
}

ssize_t read(int fd, void *bytes, size_t count)
{
	return fails("read", fd) ? -1 : syscall(SYS_read, fd, bytes, count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t offset)
{
	return fails("read", fd) ? -1 : syscall(SYS_pread64, fd, bytes, count, offset);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset)
{
	return pread(fd, bytes, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
	return fails("write", fd) ? -1 : syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
	return fails("write", fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
	return pwrite(fd, bytes, count, offset);
}

int ftruncate(int fd, off_t length)
{
	return fails("write", fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length)
{
	return ftruncate(fd, length);
}

int fsync(int fd)
{
	return fails("sync", fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return fails("sync", fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}
