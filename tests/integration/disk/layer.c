/* The file layer: a library for LD_PRELOAD that writes down what a program does with its disk, and can spoil it.
 *
 * It stands between a program and the kernel for files below one directory: each change and each sync goes into a log,
 * and so does each send on a TCP socket, so that the order of acknowledgements and syncs can be seen. A control file
 * tells it to fail or to be slow while the program runs. It knows nothing of databases or of MQTT.
 *
 *     MIDGE_DISK_DIR      the directory that counts, without symbolic links in its path
 *     MIDGE_DISK_LOG      the log, which is appended to; log.rs reads it
 *     MIDGE_DISK_CONTROL  the control file, mapped for reading; mod.rs writes it
 *
 * 1. A record is one append by one system call: what was logged survives SIGKILL, and the place of a record in the log
 *    is its number among all threads and processes.
 * 2. Changes are made and logged under one lock: their order in the log is the order in which they happened. They are
 *    logged once they have happened; the one that SIGKILL finds in between is found by mod.rs at the next start.
 * 3. A send is logged before it leaves, the end of a sync when it has ended; a sync holds for what was logged before
 *    its beginning.
 * 4. Nothing is synced in truth: who asks for a power cut gets one made from the log.
 * 5. What a signal handler may call takes no lock: sends and writes to anything but files of the directory.
 * What it cannot see: stdio, io_uring, copy_file_range and direct system calls. mod.rs compares the files with the log
 * and fails the test if something escaped. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "offsets are passed to system calls whole");

/* So many bytes of a send are logged. */
#define SEND_MAX (1 << 20)
/* So many pieces of one vectored write are taken; the rest is a short write. */
#define PIECES_MAX 512
/* The log is kept away from the low descriptors, which programs close and count. */
#define LOG_FD_MIN 200
/* A delayed sync looks again whether it is still to be delayed. */
#define SLICE_NS 2000000

enum kind {
    STARTED = 1,
    CREATED,
    WRITTEN,
    RESIZED,
    RENAMED,
    UNLINKED,
    SYNC_BEGUN,
    SYNCED,
    SYNC_FAILED,
    SENT,
    REFUSED,
    UNSEEN,
    TAKEN,
};

struct header {
    uint32_t length; /* of the whole record */
    uint16_t kind;
    uint16_t port; /* of the peer, for SENT and TAKEN */
    uint32_t thread;
    uint32_t error;
    uint64_t time_ns;
    uint64_t inode;
    uint64_t value; /* an offset or a length */
};

struct control {
    uint64_t epoch; /* changes whenever the rest does, and last: counters begin anew */
    uint64_t sync_delay_ms;
    uint64_t write_error, write_errors; /* an errno or 0; for so many changes */
    uint64_t sync_error, sync_errors;
    uint64_t short_writes;
    uint64_t room;       /* bytes by which files may still grow; all ones: as they like */
    uint64_t name_error; /* for whatever opens for writing, creates, renames or unlinks */
    uint64_t write_inode; /* the file whose changes fail; 0: every one */
};

static char dir[PATH_MAX];
static size_t dir_length;
static int log_fd = -1;
static const volatile struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What is left of the control file's counters, under the lock. */
static uint64_t epoch, write_errors, sync_errors, room;

static void die(const char *what) {
    int error = errno;
    dprintf(2, "the file layer of the tests: %s: %s\n", what, strerror(error));
    abort();
}

static void record(struct header header, const struct iovec *data, int pieces) {
    int error = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct iovec all[PIECES_MAX + 1] = {{&header, sizeof header}};
    size_t length = sizeof header;
    for (int i = 0; i < pieces; i++) {
        all[i + 1] = data[i];
        length += data[i].iov_len;
    }
    header.length = (uint32_t)length;
    header.thread = (uint32_t)syscall(SYS_gettid);
    header.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (syscall(SYS_writev, log_fd, all, pieces + 1) != (long)length)
        die("its log");
    errno = error;
}

static void record_text(struct header header, const char *text) {
    struct iovec data = {(void *)text, strlen(text)};
    record(header, &data, 1);
}

static int refuse(uint64_t error, const char *call) {
    record_text((struct header){.kind = REFUSED, .error = (uint32_t)error}, call);
    errno = (int)error;
    return -1;
}

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("MIDGE_DISK_DIR"), *log = getenv("MIDGE_DISK_LOG");
    const char *told = getenv("MIDGE_DISK_CONTROL");
    if (!directory || !log || !told)
        return;
    dir_length = strlen(directory);
    if (dir_length >= sizeof dir)
        return;
    memcpy(dir, directory, dir_length + 1);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, told, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(told);
    void *map = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        die(told);
    close(fd);
    control = map;
    fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        die(log);
    int high = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
    if (high < 0)
        die(log);
    close(fd);
    log_fd = high;
    record((struct header){.kind = STARTED, .value = (uint64_t)getpid()}, NULL, 0);
}

/* Begins the counters anew when the control file was rewritten. Under the lock. */
static void look(void) {
    if (control->epoch == epoch)
        return;
    epoch = control->epoch;
    write_errors = control->write_errors;
    sync_errors = control->sync_errors;
    room = control->room;
}

/* The errno with which this change of a file, or of a directory where there is none, is to fail, or 0. Under the lock. */
static uint64_t write_fault(const struct stat *file) {
    look();
    if (!control->write_error || !write_errors)
        return 0;
    if (control->write_inode && (!file || file->st_ino != control->write_inode))
        return 0;
    if (write_errors != UINT64_MAX)
        write_errors--;
    return control->write_error;
}

static bool below(const char *path) {
    return !strncmp(path, dir, dir_length) && (path[dir_length] == '/' || !path[dir_length]);
}

/* What is behind a descriptor, and whether it is a file or directory that counts. */
static bool counts(int fd, struct stat *stat) {
    int error = errno;
    char name[64], path[PATH_MAX];
    bool answer = false;
    stat->st_mode = 0;
    if (log_fd >= 0 && !fstat(fd, stat) && (S_ISREG(stat->st_mode) || S_ISDIR(stat->st_mode))) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        long length = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            answer = below(path);
        }
    }
    errno = error;
    return answer;
}

/* The absolute path of a name whose last part need not exist; whether it counts. */
static bool locate(int at, const char *name, char path[PATH_MAX]) {
    int error = errno;
    char parent[PATH_MAX], whole[PATH_MAX];
    int length;
    if (log_fd < 0 || !name)
        return false;
    if (name[0] == '/' || at == AT_FDCWD)
        length = snprintf(whole, sizeof whole, "%s%s", name[0] == '/' ? "" : "./", name);
    else
        length = snprintf(whole, sizeof whole, "/proc/self/fd/%d/%s", at, name);
    bool answer = false;
    char *slash = strrchr(whole, '/');
    if (length > 0 && length < (int)sizeof whole && slash[1]) {
        char *last = slash + 1;
        *slash = 0;
        if (realpath(whole[0] ? whole : "/", parent)) {
            length = snprintf(path, PATH_MAX, "%s/%s", parent[1] ? parent : "", last);
            answer = length < PATH_MAX && below(path);
        }
    }
    errno = error;
    return answer;
}

/* --- names ------------------------------------------------------------------------------------------------------ */

static int open_at(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    bool for_writing = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    if (!for_writing || !locate(at, name, path))
        return (int)syscall(SYS_openat, at, name, flags, mode);
    if (control->name_error)
        return refuse(control->name_error, "open");
    pthread_mutex_lock(&lock);
    struct stat before, after;
    int error = errno;
    bool existed = !fstatat(AT_FDCWD, path, &before, 0);
    errno = error;
    int fd;
    uint64_t fault = existed || !(flags & O_CREAT) ? 0 : write_fault(NULL);
    if (fault) {
        fd = refuse(fault, "create");
    } else {
        fd = (int)syscall(SYS_openat, at, name, flags, mode);
        /* A file without a name, which will not outlive its descriptor. */
        if (fd >= 0 && (flags & O_TMPFILE) == O_TMPFILE && !fstat(fd, &after))
            record((struct header){.kind = CREATED, .inode = after.st_ino}, NULL, 0);
        else if (fd >= 0 && !existed && !fstat(fd, &after))
            record_text((struct header){.kind = CREATED, .inode = after.st_ino}, path);
        else if (fd >= 0 && flags & O_TRUNC && before.st_size > 0)
            record((struct header){.kind = RESIZED, .inode = before.st_ino}, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                                             \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, mode_t);                                                                                   \
        va_end(more);                                                                                                  \
    }

int open(const char *name, int flags, ...) {
    MODE return open_at(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE return open_at(AT_FDCWD, name, flags, mode);
}
int openat(int at, const char *name, int flags, ...) {
    MODE return open_at(at, name, flags, mode);
}
int openat64(int at, const char *name, int flags, ...) {
    MODE return open_at(at, name, flags, mode);
}
int creat(const char *name, mode_t mode) {
    return open_at(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int __open_2(const char *name, int flags) {
    return open_at(AT_FDCWD, name, flags, 0);
}
int __open64_2(const char *name, int flags) {
    return open_at(AT_FDCWD, name, flags, 0);
}
int __openat_2(int at, const char *name, int flags) {
    return open_at(at, name, flags, 0);
}
int __openat64_2(int at, const char *name, int flags) {
    return open_at(at, name, flags, 0);
}

static int rename_at(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    bool leaves = locate(from_at, from, old), comes = locate(to_at, to, new);
    if (!leaves && !comes)
        return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (control->name_error)
        return refuse(control->name_error, "rename");
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    struct stat stat;
    if (result == 0 && (!leaves || !comes || flags & RENAME_EXCHANGE)) {
        record_text((struct header){.kind = UNSEEN}, "a rename into or out of the directory, or an exchange");
    } else if (result == 0 && !fstatat(AT_FDCWD, new, &stat, AT_SYMLINK_NOFOLLOW)) {
        /* Both names, the first with its final zero. */
        struct iovec data[] = {{old, strlen(old) + 1}, {new, strlen(new)}};
        record((struct header){.kind = RENAMED, .inode = stat.st_ino}, data, 2);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_at, const char *from, int to_at, const char *to) {
    return rename_at(from_at, from, to_at, to, 0);
}
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    return rename_at(from_at, from, to_at, to, flags);
}

static int unlink_at(int at, const char *name, int flags) {
    char path[PATH_MAX];
    if (flags & AT_REMOVEDIR || !locate(at, name, path))
        return (int)syscall(SYS_unlinkat, at, name, flags);
    if (control->name_error)
        return refuse(control->name_error, "unlink");
    pthread_mutex_lock(&lock);
    struct stat stat = {0};
    int error = errno;
    fstatat(AT_FDCWD, path, &stat, AT_SYMLINK_NOFOLLOW);
    errno = error;
    int result = (int)syscall(SYS_unlinkat, at, name, flags);
    if (result == 0)
        record_text((struct header){.kind = UNLINKED, .inode = stat.st_ino}, path);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Hard links are more than the model knows. */
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    char path[PATH_MAX];
    int result = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (result == 0 && locate(to_at, to, path))
        record_text((struct header){.kind = UNSEEN}, "a hard link");
    return result;
}
int link(const char *from, const char *to) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *name) {
    return unlink_at(AT_FDCWD, name, 0);
}
int unlinkat(int at, const char *name, int flags) {
    return unlink_at(at, name, flags);
}
int remove(const char *name) {
    int result = unlink_at(AT_FDCWD, name, 0);
    return result < 0 && errno == EISDIR ? unlink_at(AT_FDCWD, name, AT_REMOVEDIR) : result;
}

/* --- contents --------------------------------------------------------------------------------------------------- */

/* Writes to a file that counts; at its own offset where none is given (-1). */
static ssize_t write_file(int fd, const struct iovec *data, int pieces, off_t offset) {
    struct iovec taken[PIECES_MAX];
    struct stat stat;
    size_t total = 0;
    pieces = pieces > PIECES_MAX ? PIECES_MAX : pieces;
    for (int i = 0; i < pieces; i++)
        total += data[i].iov_len;
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    if (fstat(fd, &stat))
        goto done;
    uint64_t fault = write_fault(&stat);
    if (fault) {
        refuse(fault, "write");
        goto done;
    }
    off_t where = offset;
    if (where < 0) {
        int flags = fcntl(fd, F_GETFL);
        where = flags & O_APPEND ? stat.st_size : lseek(fd, 0, SEEK_CUR);
    }
    size_t allowed = total;
    if (control->short_writes && total > 1)
        allowed = (total + 1) / 2;
    uint64_t grows = where + (off_t)allowed > stat.st_size ? (uint64_t)(where + (off_t)allowed - stat.st_size) : 0;
    if (room != UINT64_MAX && grows > room) {
        allowed = allowed > grows - room ? allowed - (grows - room) : 0;
        if (!allowed) {
            refuse(ENOSPC, "write");
            goto done;
        }
    }
    size_t left = allowed;
    int used = 0;
    for (int i = 0; i < pieces && left > 0; i++) {
        taken[used] = data[i];
        if (taken[used].iov_len > left)
            taken[used].iov_len = left;
        left -= taken[used++].iov_len;
    }
    result = offset < 0 ? syscall(SYS_writev, fd, taken, used) : syscall(SYS_pwritev, fd, taken, used, offset, 0L);
    if (result <= 0)
        goto done;
    /* The file system of this machine may itself have taken less. */
    left = (size_t)result;
    for (used = 0; left > 0; used++) {
        if (taken[used].iov_len > left)
            taken[used].iov_len = left;
        left -= taken[used].iov_len;
    }
    if (room != UINT64_MAX && where + result > stat.st_size)
        room -= (uint64_t)(where + result - stat.st_size);
    record((struct header){.kind = WRITTEN, .inode = stat.st_ino, .value = (uint64_t)where}, taken, used);
done:
    pthread_mutex_unlock(&lock);
    return result;
}

/* Logs what a TCP socket is about to be given; returns the port of the peer, 0 if it is no such socket. */
static uint16_t sending(int fd, const struct iovec *data, int pieces) {
    int error = errno;
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    uint16_t port = 0;
    if (log_fd < 0 || getpeername(fd, (struct sockaddr *)&peer, &length))
        goto done;
    if (peer.ss_family == AF_INET)
        port = ntohs(((struct sockaddr_in *)&peer)->sin_port);
    else if (peer.ss_family == AF_INET6)
        port = ntohs(((struct sockaddr_in6 *)&peer)->sin6_port);
    else
        goto done;
    struct iovec shown[PIECES_MAX];
    size_t left = SEND_MAX;
    int used = 0;
    for (; used < pieces && used < PIECES_MAX && left > 0; used++) {
        shown[used] = data[used];
        if (shown[used].iov_len > left)
            shown[used].iov_len = left;
        left -= shown[used].iov_len;
    }
    record((struct header){.kind = SENT, .port = port}, shown, used);
done:
    errno = error;
    return port;
}

/* Logs how much of it the socket took, if that was not all. */
static ssize_t sent(uint16_t port, const struct iovec *data, int pieces, ssize_t result) {
    size_t total = 0;
    for (int i = 0; i < pieces; i++)
        total += data[i].iov_len;
    if (port && result != (ssize_t)total)
        record((struct header){.kind = TAKEN, .port = port, .value = result < 0 ? 0 : (uint64_t)result}, NULL, 0);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct stat stat;
    struct iovec data = {(void *)bytes, length};
    if (counts(fd, &stat))
        return write_file(fd, &data, 1, -1);
    uint16_t port = S_ISSOCK(stat.st_mode) ? sending(fd, &data, 1) : 0;
    return sent(port, &data, 1, syscall(SYS_write, fd, bytes, length));
}
ssize_t writev(int fd, const struct iovec *data, int pieces) {
    struct stat stat;
    if (counts(fd, &stat))
        return write_file(fd, data, pieces, -1);
    uint16_t port = S_ISSOCK(stat.st_mode) ? sending(fd, data, pieces) : 0;
    return sent(port, data, pieces, syscall(SYS_writev, fd, data, pieces));
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    struct stat stat;
    struct iovec data = {(void *)bytes, length};
    if (counts(fd, &stat))
        return write_file(fd, &data, 1, offset);
    return syscall(SYS_pwrite64, fd, bytes, length, offset);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}
ssize_t pwritev64(int fd, const struct iovec *data, int pieces, off64_t offset) {
    struct stat stat;
    if (counts(fd, &stat))
        return write_file(fd, data, pieces, offset);
    return syscall(SYS_pwritev, fd, data, pieces, offset, 0L);
}
ssize_t pwritev(int fd, const struct iovec *data, int pieces, off_t offset) {
    return pwritev64(fd, data, pieces, offset);
}
ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_length) {
    struct iovec data = {(void *)bytes, length};
    uint16_t port = sending(fd, &data, 1);
    return sent(port, &data, 1, syscall(SYS_sendto, fd, bytes, length, flags, to, to_length));
}
ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    return sendto(fd, bytes, length, flags, NULL, 0);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    int pieces = (int)message->msg_iovlen;
    uint16_t port = sending(fd, message->msg_iov, pieces);
    return sent(port, message->msg_iov, pieces, syscall(SYS_sendmsg, fd, message, flags));
}

int ftruncate64(int fd, off64_t length) {
    struct stat stat;
    if (!counts(fd, &stat))
        return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    int result = -1;
    uint64_t fault = write_fault(&stat);
    if (fault) {
        refuse(fault, "ftruncate");
    } else {
        result = (int)syscall(SYS_ftruncate, fd, length);
        if (result == 0)
            record((struct header){.kind = RESIZED, .inode = stat.st_ino, .value = (uint64_t)length}, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    struct stat before, after;
    if (!counts(fd, &before))
        return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    pthread_mutex_lock(&lock);
    int result = -1;
    uint64_t fault = write_fault(&before);
    if (fault || (room != UINT64_MAX && offset + length > before.st_size)) {
        refuse(fault ? fault : ENOSPC, "fallocate");
    } else {
        result = (int)syscall(SYS_fallocate, fd, mode, offset, length);
        if (result == 0 && mode & ~FALLOC_FL_KEEP_SIZE)
            record_text((struct header){.kind = UNSEEN}, "fallocate with a mode that changes contents");
        else if (result == 0 && !fstat(fd, &after))
            record((struct header){.kind = RESIZED, .inode = after.st_ino, .value = (uint64_t)after.st_size}, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
    return fallocate64(fd, mode, offset, length);
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    int error = errno;
    int result = fallocate64(fd, 0, offset, length) ? errno : 0;
    errno = error;
    return result;
}
int posix_fallocate(int fd, off_t offset, off_t length) {
    return posix_fallocate64(fd, offset, length);
}

static void *map(void *at, size_t length, int access, int flags, int fd, off64_t offset) {
    struct stat stat;
    if (fd >= 0 && access & PROT_WRITE && flags & MAP_SHARED && counts(fd, &stat))
        record_text((struct header){.kind = UNSEEN, .inode = stat.st_ino}, "mmap, shared and for writing");
    return (void *)syscall(SYS_mmap, at, length, access, flags, fd, offset);
}
void *mmap(void *at, size_t length, int access, int flags, int fd, off_t offset) {
    return map(at, length, access, flags, fd, offset);
}
void *mmap64(void *at, size_t length, int access, int flags, int fd, off64_t offset) {
    return map(at, length, access, flags, fd, offset);
}

/* --- syncs ------------------------------------------------------------------------------------------------------ */

static int sync_file(int fd, long call) {
    struct stat stat;
    if (!counts(fd, &stat))
        return (int)syscall(call, fd);
    record((struct header){.kind = SYNC_BEGUN, .inode = stat.st_ino}, NULL, 0);
    struct timespec start, now, slice = {0, SLICE_NS};
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (now = start; control->sync_delay_ms; clock_gettime(CLOCK_MONOTONIC, &now)) {
        int64_t passed_ns = (now.tv_sec - start.tv_sec) * 1000000000 + (now.tv_nsec - start.tv_nsec);
        if (passed_ns >= (int64_t)control->sync_delay_ms * 1000000)
            break;
        nanosleep(&slice, NULL);
    }
    pthread_mutex_lock(&lock);
    look();
    uint64_t fault = sync_errors ? control->sync_error : 0;
    if (fault && sync_errors != UINT64_MAX)
        sync_errors--;
    pthread_mutex_unlock(&lock);
    enum kind kind = fault ? SYNC_FAILED : SYNCED;
    record((struct header){.kind = kind, .inode = stat.st_ino, .error = (uint32_t)fault}, NULL, 0);
    if (!fault)
        return 0;
    errno = (int)fault;
    return -1;
}

int fsync(int fd) {
    return sync_file(fd, SYS_fsync);
}
int fdatasync(int fd) {
    return sync_file(fd, SYS_fdatasync);
}
/* Promises nothing after a power cut, so it is not a sync; only the error is of interest. */
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    struct stat stat;
    if (counts(fd, &stat) && control->sync_error)
        return refuse(control->sync_error, "sync_file_range");
    return (int)syscall(SYS_sync_file_range, fd, offset, length, flags);
}
