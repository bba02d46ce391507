/*
 * A file layer that fails, for tests: loaded with LD_PRELOAD, it counts every call that
 * changes a file below FAULT_DIR or makes one durable, and does one thing at call FAULT_AT:
 *
 *   count        nothing; only the kinds of the calls are reported
 *   kill         the process dies before the call
 *   half         half of the bytes are written, then it dies; another call is made first
 *   cut          it dies before the call, and the power with it: nothing is left that was
 *                not synced, no name that its directory was not synced after
 *   some         the same, but what was not synced is left in part: writes reach a disk in
 *                any order
 *   eio          the call fails (EIO) and is not made
 *   eio-applied  the call is made and fails all the same
 *   eio-cut      `eio`, and the power goes FAULT_GAP calls later. A sync that failed leaves
 *                what it was for unsynced for ever, as Linux does
 *   enospc       no space for FAULT_GAP calls: half of a write is made, then ENOSPC. What
 *                makes a file no longer needs none
 *   short        half of the bytes are written, and that is what the call says
 *
 * At its end, and when it dies, it writes one letter a call to FAULT_LOG: `w` a write, `s`
 * a sync, `n` a change of names, `t` a change of length.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 4096

/* A change of a file that no sync covered yet. */
struct change {
    struct change *next;
    off_t at;        /* the new length when there are no bytes */
    size_t len;
    char *bytes;     /* NULL: a change of length */
    int lost;        /* its sync failed */
};

/* A file, by its inode: what the disk holds for sure, and the changes since. */
struct file {
    struct file *next;
    dev_t dev;
    ino_t ino;
    int fd;          /* kept open: closing it would drop the process's locks */
    char *base;
    size_t base_len;
    struct change *first, **last;
};

/* A change of names that no sync of its directory covered yet; the newest first. */
struct naming {
    struct naming *next;
    enum { CREATED, RENAMED, REMOVED, MADE_DIR } what;
    char dir[PATH_MAX], path[PATH_MAX], from[PATH_MAX], kept[PATH_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], aside[PATH_MAX], mode[32], log_path[PATH_MAX];
static size_t root_len;
static long at, gap = 4, point, kept_names;
static unsigned long seed;
static char *kinds;
static size_t kinds_cap;
static char *paths[FDS];
static struct file *opened[FDS], *files;
static struct naming *namings;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_mkdir)(const char *, mode_t);

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void start(void) {
    real_open = real("open64");
    real_openat = real("openat64");
    real_close = real("close");
    real_write = real("write");
    real_pwrite = real("pwrite64");
    real_fsync = real("fsync");
    real_ftruncate = real("ftruncate64");
    real_rename = real("rename");
    real_unlink = real("unlink");
    real_unlinkat = real("unlinkat");
    real_mkdir = real("mkdir");
    const char *v = getenv("FAULT_DIR");
    if (!v) return;
    snprintf(root, sizeof root, "%s/", v);
    root_len = strlen(root);
    if ((v = getenv("FAULT_ASIDE"))) snprintf(aside, sizeof aside, "%s", v);
    if ((v = getenv("FAULT_LOG"))) snprintf(log_path, sizeof log_path, "%s", v);
    if ((v = getenv("FAULT_MODE"))) snprintf(mode, sizeof mode, "%s", v);
    if ((v = getenv("FAULT_AT"))) at = atol(v);
    if ((v = getenv("FAULT_GAP"))) gap = atol(v);
    if ((v = getenv("FAULT_SEED"))) seed = strtoul(v, NULL, 10);
}

static int is(const char *name) { return strcmp(mode, name) == 0; }

static int below(const char *path) {
    return root_len && path &&
           (strncmp(path, root, root_len) == 0 ||
            (strlen(path) == root_len - 1 && strncmp(path, root, root_len - 1) == 0));
}

/* The engine's shared memory is made anew after a crash. */
static int volatile_file(const char *path) {
    size_t len = strlen(path);
    return len > 4 && strcmp(path + len - 4, "-shm") == 0;
}

static const char *path_of(int fd) { return fd >= 0 && fd < FDS ? paths[fd] : NULL; }

static unsigned long draw(void) {
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return seed >> 33;
}

/* --- what a power cut leaves ------------------------------------------------------- */

static void set_base_len(struct file *f, size_t len) {
    if (len > f->base_len) {
        f->base = realloc(f->base, len);
        memset(f->base + f->base_len, 0, len - f->base_len);
    }
    f->base_len = len;
}

static void apply(struct file *f, const struct change *c) {
    if (!c->bytes) {
        set_base_len(f, (size_t)c->at);
        return;
    }
    if ((size_t)c->at + c->len > f->base_len) set_base_len(f, (size_t)c->at + c->len);
    memcpy(f->base + c->at, c->bytes, c->len);
}

static struct file *file_of(int fd) {
    if (fd < 0 || fd >= FDS || !paths[fd] || volatile_file(paths[fd])) return NULL;
    if (opened[fd]) return opened[fd];
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return NULL;
    for (struct file *f = files; f; f = f->next)
        if (f->dev == st.st_dev && f->ino == st.st_ino) return opened[fd] = f;
    struct file *f = calloc(1, sizeof *f);
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    f->fd = real_open(self, O_RDWR | O_CLOEXEC);
    f->last = &f->first;
    if (f->fd >= 0 && st.st_size > 0) {
        f->base = malloc((size_t)st.st_size);
        ssize_t got = pread(f->fd, f->base, (size_t)st.st_size, 0);
        f->base_len = got > 0 ? (size_t)got : 0;
    }
    f->next = files;
    files = f;
    return opened[fd] = f;
}

static void changed(int fd, const void *bytes, size_t len, off_t where) {
    struct file *f = file_of(fd);
    if (!f) return;
    struct change *c = calloc(1, sizeof *c);
    c->at = where;
    c->len = len;
    if (bytes) {
        c->bytes = malloc(len ? len : 1);
        memcpy(c->bytes, bytes, len);
    }
    *f->last = c;
    f->last = &c->next;
}

static void synced(int fd, int done) {
    const char *path = path_of(fd);
    struct stat st;
    if (path && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (!done) return;
        for (struct naming **n = &namings; *n;) {
            struct naming *one = *n;
            if (strcmp(one->dir, path) == 0) {
                *n = one->next;
                free(one);
            } else {
                n = &one->next;
            }
        }
        return;
    }
    struct file *f = file_of(fd);
    if (!f) return;
    if (!done) {
        for (struct change *c = f->first; c; c = c->next) c->lost = 1;
        return;
    }
    for (struct change *c = f->first; c;) {
        struct change *next = c->next;
        if (!c->lost) apply(f, c);
        free(c->bytes);
        free(c);
        c = next;
    }
    f->first = NULL;
    f->last = &f->first;
}

static void named(int what, const char *path, const char *from) {
    struct naming *n = calloc(1, sizeof *n);
    n->what = what;
    snprintf(n->path, sizeof n->path, "%s", path);
    snprintf(n->dir, sizeof n->dir, "%s", path);
    char *slash = strrchr(n->dir, '/');
    if (slash) *slash = 0;
    if (from) snprintf(n->from, sizeof n->from, "%s", from);
    n->next = namings;
    namings = n;
}

/* Keeps what the name stands for before it goes; called before the change. */
static void keep(const char *path, char *kept) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%.3000s/%ld", aside, kept_names++);
    kept[0] = 0;
    if (aside[0] && link(path, name) == 0) snprintf(kept, PATH_MAX, "%s", name);
}

static void power_cut(int in_part) {
    /* Syncing names and syncing bytes are two things: either may be left out. */
    if (!in_part || draw() % 2) {
        for (struct naming *n = namings; n; n = n->next) {
            switch (n->what) {
            case CREATED: real_unlink(n->path); break;
            case MADE_DIR: rmdir(n->path); break;
            case RENAMED: real_rename(n->path, n->from); break;
            case REMOVED: break;
            }
            if (n->kept[0]) real_rename(n->kept, n->path);
        }
    }
    for (struct file *f = files; f; f = f->next) {
        if (f->fd < 0 || !f->first) continue;
        for (struct change *c = f->first; c; c = c->next)
            if (in_part && !c->lost && draw() % 2) apply(f, c);
        if (real_ftruncate(f->fd, (off_t)f->base_len) != 0) abort();
        if (f->base_len && real_pwrite(f->fd, f->base, f->base_len, 0) < 0) abort();
    }
}

/* --- the points --------------------------------------------------------------------- */

static void report(void) {
    if (!log_path[0]) return;
    int fd = real_open(log_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) return;
    if (point && real_write(fd, kinds, (size_t)point) < 0) abort();
    real_close(fd);
}

__attribute__((destructor)) static void end(void) { report(); }

static void die(void) {
    report();
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

enum verdict { MAKE, HALF_AND_DIE, FAIL, FAIL_APPLIED, NO_SPACE, SHORT };

/* Called with the lock held, before a call of this kind. */
static enum verdict pass(char kind) {
    if ((size_t)point >= kinds_cap) kinds = realloc(kinds, kinds_cap += 4096);
    kinds[point++] = kind;
    if (!at) return MAKE;
    if (is("eio-cut") && point == at + gap) {
        power_cut(0);
        die();
    }
    if (is("enospc") && point >= at && point < at + gap) return kind == 's' ? MAKE : NO_SPACE;
    if (point != at) return MAKE;
    if (is("kill")) die();
    if (is("cut") || is("some")) {
        power_cut(is("some"));
        die();
    }
    if (is("half")) return HALF_AND_DIE;
    if (is("eio") || is("eio-cut")) return FAIL;
    if (is("eio-applied")) return FAIL_APPLIED;
    if (is("short") && kind == 'w') return SHORT;
    return MAKE;
}

static int fail(int error) {
    errno = error;
    return -1;
}

/* What a call without bytes comes to, when it is not simply made. */
static int settle(enum verdict v, int outcome) {
    if (v == HALF_AND_DIE) die();
    if (v == FAIL_APPLIED) return fail(EIO);
    return outcome;
}

static ssize_t put(int fd, const void *bytes, size_t len, off_t where, int seeks) {
    pthread_mutex_lock(&lock);
    enum verdict v = pass('w');
    if (v == FAIL) {
        pthread_mutex_unlock(&lock);
        return fail(EIO);
    }
    size_t part = v == HALF_AND_DIE || v == NO_SPACE || (v == SHORT && len > 1) ? len / 2 : len;
    file_of(fd);
    if (seeks) where = lseek(fd, 0, SEEK_CUR);
    ssize_t done = part || !len ? (seeks ? real_write(fd, bytes, part)
                                         : real_pwrite(fd, bytes, part, where))
                                : 0;
    int error = errno;
    if (done > 0) changed(fd, bytes, (size_t)done, where);
    if (v == HALF_AND_DIE) die();
    pthread_mutex_unlock(&lock);
    errno = error;
    if (v == NO_SPACE) return fail(ENOSPC);
    if (v == FAIL_APPLIED) return fail(EIO);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t len) {
    if (!path_of(fd)) return real_write ? real_write(fd, bytes, len) : fail(EBADF);
    return put(fd, bytes, len, 0, 1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t where) {
    if (!path_of(fd)) return real_pwrite(fd, bytes, len, where);
    return put(fd, bytes, len, where, 0);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t where) {
    return pwrite64(fd, bytes, len, where);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!path_of(fd)) {
        ssize_t (*next)(int, const struct iovec *, int) = real("writev");
        return next(fd, parts, count);
    }
    /* A write may be short; whoever calls goes on with the rest. */
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) return put(fd, parts[i].iov_base, parts[i].iov_len, 0, 1);
    return 0;
}

int fsync(int fd) {
    if (!path_of(fd)) return real_fsync(fd);
    pthread_mutex_lock(&lock);
    enum verdict v = pass('s');
    int outcome = 0;
    if (v == FAIL) {
        synced(fd, 0);
        outcome = fail(EIO);
    } else {
        /* The test's files lie in memory; what a sync is for is kept above. */
        synced(fd, 1);
        outcome = settle(v, 0);
    }
    pthread_mutex_unlock(&lock);
    return outcome;
}

int fdatasync(int fd) { return fsync(fd); }

int ftruncate64(int fd, off_t len) {
    if (!path_of(fd)) return real_ftruncate(fd, len);
    pthread_mutex_lock(&lock);
    struct stat now;
    enum verdict v = pass('t');
    int outcome;
    if (v == NO_SPACE && fstat(fd, &now) == 0 && len <= now.st_size) v = MAKE;
    if (v == FAIL || v == NO_SPACE) {
        outcome = fail(v == FAIL ? EIO : ENOSPC);
    } else {
        file_of(fd);
        outcome = real_ftruncate(fd, len);
        if (outcome == 0) changed(fd, NULL, 0, len);
        outcome = settle(v, outcome);
    }
    pthread_mutex_unlock(&lock);
    return outcome;
}

int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

static int opening(int dir, const char *path, int flags, mode_t perm) {
    if (!below(path)) return real_openat(dir, path, flags, perm);
    pthread_mutex_lock(&lock);
    int creates = (flags & O_CREAT) && access(path, F_OK) != 0;
    enum verdict v = creates ? pass('n') : MAKE;
    int fd;
    if (v == FAIL || v == NO_SPACE) {
        fd = fail(v == FAIL ? EIO : ENOSPC);
    } else {
        fd = real_openat(dir, path, flags, perm);
        int error = errno;
        if (fd >= 0 && fd < FDS) {
            free(paths[fd]);
            paths[fd] = strdup(path);
            opened[fd] = NULL;
            if (creates) named(CREATED, path, NULL);
            if (flags & O_TRUNC) changed(fd, NULL, 0, 0);
        }
        if (v == FAIL_APPLIED && fd >= 0) {
            free(paths[fd]);
            paths[fd] = NULL;
            real_close(fd);
        }
        errno = error;
        fd = settle(v, fd);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags, perm)                       \
    mode_t perm = 0;                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {         \
        va_list args;                              \
        va_start(args, flags);                     \
        perm = (mode_t)va_arg(args, int);          \
        va_end(args);                              \
    }

int open64(const char *path, int flags, ...) {
    MODE_OF(flags, perm)
    return opening(AT_FDCWD, path, flags, perm);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags, perm)
    return opening(AT_FDCWD, path, flags, perm);
}

int close(int fd) {
    if (path_of(fd)) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        opened[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}

int rename(const char *from, const char *to) {
    if (!below(to)) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    enum verdict v = pass('n');
    int outcome;
    if (v == FAIL || v == NO_SPACE) {
        outcome = fail(v == FAIL ? EIO : ENOSPC);
    } else {
        char kept[PATH_MAX];
        keep(to, kept);
        outcome = real_rename(from, to);
        if (outcome == 0) {
            named(RENAMED, to, from);
            strcpy(namings->kept, kept);
        }
        outcome = settle(v, outcome);
    }
    pthread_mutex_unlock(&lock);
    return outcome;
}

int unlink(const char *path) {
    if (!below(path) || volatile_file(path)) return real_unlink(path);
    pthread_mutex_lock(&lock);
    enum verdict v = pass('n');
    int outcome;
    if (v == FAIL) {
        outcome = fail(EIO);
    } else {
        char kept[PATH_MAX];
        keep(path, kept);
        outcome = real_unlink(path);
        if (outcome == 0) {
            named(REMOVED, path, NULL);
            strcpy(namings->kept, kept);
        }
        outcome = settle(v, outcome);
    }
    pthread_mutex_unlock(&lock);
    return outcome;
}

int mkdir(const char *path, mode_t perm) {
    if (!below(path)) return real_mkdir(path, perm);
    pthread_mutex_lock(&lock);
    enum verdict v = pass('n');
    int outcome;
    if (v == FAIL || v == NO_SPACE) {
        outcome = fail(v == FAIL ? EIO : ENOSPC);
    } else {
        outcome = real_mkdir(path, perm);
        if (outcome == 0) named(MADE_DIR, path, NULL);
        outcome = settle(v, outcome);
    }
    pthread_mutex_unlock(&lock);
    return outcome;
}
