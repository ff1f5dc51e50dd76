/* Preloaded into a process, it records what the process does to the files of one folder: every
 * write, every change of a name or a size, and every sync after it has returned; and what the process
 * says on stdout. From the record a test makes the folder as a disk may have it after a power cut.
 *
 * GIOSTRA_POWER_FAIL names a file whose first sync fails, as that of a broken disk.
 *
 * GIOSTRA_POWER_FOLDER is the folder, GIOSTRA_POWER_TRACE the file that the record is appended to. A
 * record is a struct header, a name and data; it is written at once, so that it survives kill -9. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum op { CREATE = 1, WRITE, TRUNCATE, EXTEND, SYNC, RENAME, UNLINK, SYNC_FOLDER, SAID };

struct header {
    uint32_t op, name_len;
    uint64_t inode, offset, data_len;
};

static int trace = -1;
static char folder[PATH_MAX];
static size_t folder_len;
/* The file whose next sync fails, if any. */
static const char *failing;
/* An operation and its record are one: a write of another thread does not come in between. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("GIOSTRA_POWER_TRACE"), *watched = getenv("GIOSTRA_POWER_FOLDER");
    if (!path || !watched || !realpath(watched, folder)) return;
    folder_len = strlen(folder);
    failing = getenv("GIOSTRA_POWER_FAIL");
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    /* Away from the numbers that the process expects for its own files. */
    trace = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 700);
    syscall(SYS_close, fd);
}

static void fail(const char *what) {
    (void)!syscall(SYS_write, 2, what, strlen(what));
    abort();
}

static void record(enum op op, uint64_t inode, uint64_t offset, const char *name, const void *data, size_t len) {
    struct header header = {op, (uint32_t)strlen(name), inode, offset, len};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)name, header.name_len}, {(void *)data, len}};
    ssize_t all = (ssize_t)(sizeof header + header.name_len + len);
    if (syscall(SYS_writev, trace, parts, 3) != all) fail("the trace can't be written\n");
}

/* The name in the folder of a path; NULL if it is elsewhere. The folder itself has the name "". */
static const char *name_in_folder(const char *path) {
    if (strncmp(path, folder, folder_len) != 0) return NULL;
    if (path[folder_len] == 0) return "";
    if (path[folder_len] != '/' || strchr(path + folder_len + 1, '/')) return NULL;
    return path + folder_len + 1;
}

/* The same of an open file. `path` has PATH_MAX bytes, in which the name is. */
static const char *name_of(int fd, char *path) {
    char link[64];
    if (trace < 0 || fd < 0 || fd == trace) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    if (len <= 0) return NULL;
    path[len] = 0;
    return name_in_folder(path);
}

/* The same of a path as a process has it, whether there is a file or not. */
static const char *name_at(const char *path, char *absolute) {
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (trace < 0) return NULL;
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof parent) return NULL;
    memcpy(parent, path, len);
    parent[len] = 0;
    if (!realpath(slash ? (len ? parent : "/") : ".", absolute)) return NULL;
    size_t end = strlen(absolute);
    if (end + strlen(path) + 2 > PATH_MAX) return NULL;
    absolute[end] = '/';
    strcpy(absolute + end + 1, slash ? slash + 1 : path);
    return name_in_folder(absolute);
}

static uint64_t inode_of(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0 ? (uint64_t)file.st_ino : 0;
}

/* Files are opened in many ways; all end here. */
static int opened(int at, const char *path, int flags, mode_t mode) {
    char absolute[PATH_MAX];
    pthread_mutex_lock(&turn);
    int existed = !(flags & (O_CREAT | O_TRUNC)) || syscall(SYS_faccessat, at, path, F_OK, 0) == 0;
    int fd = (int)syscall(SYS_openat, at, path, flags | O_LARGEFILE, mode);
    const char *name = flags & (O_CREAT | O_TRUNC) ? name_of(fd, absolute) : NULL;
    if (name && !existed) record(CREATE, inode_of(fd), 0, name, NULL, 0);
    if (name && existed && flags & O_TRUNC) record(TRUNCATE, inode_of(fd), 0, name, NULL, 0);
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE(flags, last)                              \
    mode_t mode = 0;                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {             \
        va_list more;                                  \
        va_start(more, last);                          \
        mode = (mode_t)va_arg(more, int);              \
        va_end(more);                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }

static void wrote(int fd, int64_t offset, const void *data, ssize_t len) {
    char path[PATH_MAX];
    const char *name = len > 0 ? name_of(fd, path) : NULL;
    if (name) {
        if (offset < 0) offset = (int64_t)lseek(fd, 0, SEEK_CUR) - len;
        record(WRITE, inode_of(fd), (uint64_t)offset, name, data, (size_t)len);
    } else if (fd == 1 && len > 0 && trace >= 0) {
        record(SAID, 0, 0, "", data, (size_t)len);
    }
}

ssize_t write(int fd, const void *data, size_t len) {
    pthread_mutex_lock(&turn);
    ssize_t done = syscall(SYS_write, fd, data, len);
    wrote(fd, -1, data, done);
    pthread_mutex_unlock(&turn);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
    pthread_mutex_lock(&turn);
    ssize_t done = syscall(SYS_pwrite64, fd, data, len, offset);
    wrote(fd, offset, data, done);
    pthread_mutex_unlock(&turn);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) { return pwrite64(fd, data, len, offset); }

/* Vectors are for sockets and pipes; in the folder they would go unrecorded. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (name_of(fd, path)) fail("writev is not recorded\n");
    return syscall(SYS_writev, fd, parts, count);
}

void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset) {
    char path[PATH_MAX];
    if (protection & PROT_WRITE && flags & MAP_SHARED && name_of(fd, path)) fail("mmap is not recorded\n");
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    return mmap64(at, len, protection, flags, fd, offset);
}

static int sized(enum op op, int fd, int done, uint64_t len) {
    char path[PATH_MAX];
    const char *name = done == 0 ? name_of(fd, path) : NULL;
    if (name) record(op, inode_of(fd), len, name, NULL, 0);
    pthread_mutex_unlock(&turn);
    return done;
}

int ftruncate64(int fd, off64_t len) {
    pthread_mutex_lock(&turn);
    return sized(TRUNCATE, fd, (int)syscall(SYS_ftruncate, fd, len), (uint64_t)len);
}

int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

int fallocate64(int fd, int mode, off64_t offset, off64_t len) {
    pthread_mutex_lock(&turn);
    return sized(EXTEND, fd, (int)syscall(SYS_fallocate, fd, mode, offset, len), (uint64_t)(offset + len));
}

int fallocate(int fd, int mode, off_t offset, off_t len) { return fallocate64(fd, mode, offset, len); }

static int synced(int fd, long call) {
    char path[PATH_MAX];
    pthread_mutex_lock(&turn);
    const char *name = name_of(fd, path);
    int fails = name && failing && strcmp(name, failing) == 0, done = -1;
    if (fails) failing = NULL, errno = EIO;
    else done = (int)syscall(call, fd);
    if (name && done == 0) record(*name ? SYNC : SYNC_FOLDER, inode_of(fd), 0, name, NULL, 0);
    pthread_mutex_unlock(&turn);
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int unlink(const char *path) {
    char absolute[PATH_MAX];
    pthread_mutex_lock(&turn);
    const char *name = name_at(path, absolute);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (name && done == 0) record(UNLINK, 0, 0, name, NULL, 0);
    pthread_mutex_unlock(&turn);
    return done;
}

int rename(const char *from, const char *to) {
    char absolute[PATH_MAX], other[PATH_MAX];
    pthread_mutex_lock(&turn);
    const char *name = name_at(from, absolute), *new = name_at(to, other);
    if (!name != !new) fail("a rename into or out of the folder is not recorded\n");
    int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (name && done == 0) record(RENAME, 0, 0, name, new, strlen(new));
    pthread_mutex_unlock(&turn);
    return done;
}
