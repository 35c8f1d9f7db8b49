/* A disk that fails, tears and forgets: put before libc in a host, below SQLite.
 *
 * In: CONCAVE_DISK_FOLDER (files below it are on this disk), CONCAVE_DISK_CONTROL (a file whose
 * first byte says what happens now). Out: errors as a kernel gives them; or the end of the process
 * with the files as a power cut leaves them.
 *
 *   '0' works   'f' no space left   's' syncs fail   't' writes are torn, then fail
 *   'c' power is cut: of each sector written and not synced, any earlier state may stay
 *
 * Invariant: what was synced stays; nothing else is promised, and little else is kept. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512

/* One sector of a file before a write that is not synced. */
struct change {
    struct change *earlier;
    ino_t file;
    int fd; /* a duplicate, to write it back; all changes of a file share it */
    off_t at;
    off_t size; /* of the file before */
    size_t length;
    int undo;
    unsigned char before[SECTOR];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *newest;
static const volatile char *control;
static const char *folder;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("CONCAVE_DISK_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    folder = getenv("CONCAVE_DISK_FOLDER");
}

static char now(void) { return control ? *control : '0'; }

/* Whether a descriptor is a file of the disk. */
static int ours(int fd, struct stat *found) {
    char link[64], path[4096];
    if (!control || !folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    /* SQLite's shared memory is no file of a disk, and neither is what this process logs. */
    return strncmp(path, folder, strlen(folder)) == 0 && !strstr(path, "-shm")
        && fstat(fd, found) == 0 && S_ISREG(found->st_mode);
}

/* Undoes what was not synced, as far as chance has it, and ends. */
static void cut(void) {
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    unsigned seed = (unsigned)clock.tv_nsec ^ (unsigned)getpid();
    int all = rand_r(&seed) % 4; /* 0: everything is lost; 1: nothing; else by the sector */
    for (struct change *one = newest; one; one = one->earlier) {
        /* A sector that kept a change keeps what came before it too. */
        int kept = all == 1 || (all > 1 && rand_r(&seed) % 2);
        for (struct change *later = newest; later != one && kept == 0; later = later->earlier) {
            if (later->file == one->file && later->at == one->at && !later->undo) kept = 1;
        }
        one->undo = !kept;
        if (one->undo) real_pwrite(one->fd, one->before, one->length, one->at);
    }
    _exit(137);
}

/* Remembers what a write is about to change. */
static void note(int fd, const struct stat *found, off_t at, size_t count) {
    off_t end = at + (off_t)count;
    int duplicate = -1;
    for (struct change *one = newest; one && duplicate < 0; one = one->earlier) {
        if (one->file == found->st_ino) duplicate = one->fd;
    }
    if (duplicate < 0) duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 500);
    for (off_t sector = at - at % SECTOR; sector < end; sector += SECTOR) {
        struct change *one = calloc(1, sizeof *one);
        one->fd = duplicate;
        one->file = found->st_ino;
        one->at = sector;
        one->size = found->st_size;
        ssize_t had = pread(fd, one->before, SECTOR, sector);
        /* Beyond the old end a lost sector reads as zeros. */
        one->length = had < SECTOR ? (size_t)(end - sector < SECTOR ? end - sector : SECTOR)
                                   : SECTOR;
        if ((size_t)(had < 0 ? 0 : had) > one->length) one->length = (size_t)had;
        one->earlier = newest;
        newest = one;
    }
}

static void forget(ino_t file) {
    int duplicate = -1;
    for (struct change **place = &newest; *place;) {
        struct change *one = *place;
        if (one->file != file) {
            place = &one->earlier;
            continue;
        }
        *place = one->earlier;
        duplicate = one->fd;
        free(one);
    }
    if (duplicate >= 0) close(duplicate);
}

/* What a write does; -2: the usual. */
static ssize_t before_write(int fd, const void *bytes, size_t count, off_t at) {
    struct stat found;
    if (!ours(fd, &found)) return -2;
    char mode = now();
    if (mode == 'f' && at + (off_t)count > found.st_size) {
        errno = ENOSPC;
        return -1;
    }
    if (mode == 't') {
        if (count > 1) real_pwrite(fd, bytes, count / 2, at);
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&lock);
    note(fd, &found, at, count);
    if (mode == 'c') {
        real_pwrite(fd, bytes, count, at);
        cut();
    }
    pthread_mutex_unlock(&lock);
    return -2;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct stat found;
    if (control && ours(fd, &found)) {
        ssize_t done = before_write(fd, bytes, count, lseek(fd, 0, SEEK_CUR));
        if (done != -2) return done;
    }
    return real_write(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    ssize_t done = before_write(fd, bytes, count, at);
    return done != -2 ? done : real_pwrite(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

static int sync_file(int fd, int (*real)(int)) {
    struct stat found;
    if (!ours(fd, &found)) return real(fd);
    if (now() == 's') {
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&lock);
    if (now() == 'c') cut();
    int done = real(fd);
    if (done == 0) forget(found.st_ino);
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return sync_file(fd, real_fsync); }

int fdatasync(int fd) { return sync_file(fd, real_fdatasync); }
