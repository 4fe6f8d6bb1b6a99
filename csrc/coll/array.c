/* Arrays in the memory that a process shows to the others of its host: made and freed here, reached by the others. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "array.h"

typedef struct part { /* an array of this process */
    struct part *next;
    char *base;
    uint64_t offset, bytes;
    pid_t pid; /* of the process that others find it in: not of its children */
} part;

typedef struct window { /* onto another process's memory from its beginning; stays as long as this process */
    struct window *next;
    uint64_t nonce, bytes;
    char *base;
} window;

#define FIRST_WINDOW (1ull << 30)

static struct {
    pthread_mutex_t busy;
    part *parts;
    window *windows; /* of one process the largest first */
} arrays = {.busy = PTHREAD_MUTEX_INITIALIZER};

/* Lengths of few kinds, so that what was freed is found again; what is behind an array takes no room. */
static uint64_t rounded(uint64_t bytes) {
    uint64_t unit = PAGE;
    while (unit < bytes / 8) unit *= 2;
    return bytes ? (bytes + unit - 1) / unit * unit : PAGE;
}

int tc_array_new(uint64_t bytes, void **at) {
    if (at == NULL || bytes > INT64_MAX / 4) return TC_ERR_ARGUMENT;
    part *made = malloc(sizeof *made);
    void *base = NULL;
    if (made == NULL) return TC_ERR_NO_MEMORY;
    made->bytes = rounded(bytes);
    int status = pool_take(made->bytes, &made->offset, &base);
    if (status != TC_OK) {
        free(made);
        return status;
    }
    made->base = base;
    made->pid = getpid();
    pthread_mutex_lock(&arrays.busy);
    made->next = arrays.parts;
    arrays.parts = made;
    pthread_mutex_unlock(&arrays.busy);
    *at = base;
    return TC_OK;
}

int tc_array_free(void *at) {
    pthread_mutex_lock(&arrays.busy);
    part **link = &arrays.parts, *found;
    while (*link && (*link)->base != at) link = &(*link)->next;
    found = *link;
    if (found) *link = found->next;
    pthread_mutex_unlock(&arrays.busy);
    if (found == NULL) return TC_ERR_ARGUMENT;
    pool_give(found->offset, found->base, found->bytes);
    free(found);
    return TC_OK;
}

bool array_holds(const void *at, uint64_t bytes, uint64_t *offset) {
    const char *first = at;
    const part *p;
    pthread_mutex_lock(&arrays.busy);
    for (p = arrays.parts; p; p = p->next)
        if (first >= p->base && first < p->base + p->bytes && bytes <= p->bytes - (uint64_t)(first - p->base)) break;
    bool held = p && p->pid == getpid();
    if (held) *offset = p->offset + (uint64_t)(first - p->base);
    pthread_mutex_unlock(&arrays.busy);
    return held;
}

static char *found_here(uint64_t offset) {
    for (const part *p = arrays.parts; p; p = p->next)
        if (p->pid == getpid() && offset >= p->offset && offset - p->offset < p->bytes) return p->base + (offset - p->offset);
    return NULL;
}

/* A larger window is added; the one before stays, as another thread may look through it. */
static char *found_there(const tc_share_address *owner, uint64_t end) {
    for (const window *w = arrays.windows; w; w = w->next)
        if (w->nonce == owner->nonce && w->bytes >= end) return w->base;
    window *made = malloc(sizeof *made);
    if (made == NULL) return NULL;
    *made = (window){arrays.windows, owner->nonce, FIRST_WINDOW, NULL};
    while (made->bytes < end) made->bytes *= 2;
    if (pool_map(owner, 0, made->bytes, &made->base) != TC_OK) {
        free(made);
        return NULL;
    }
    arrays.windows = made;
    return made->base;
}

char *array_reach(const tc_share_address *owner, uint64_t offset, uint64_t bytes) {
    pthread_mutex_lock(&arrays.busy);
    char *at = NULL;
    if (owner->pid == getpid()) { /* one mapping a process, so that thread sanitizers see the true addresses */
        at = found_here(offset);
    } else {
        char *base = found_there(owner, offset + bytes);
        if (base) at = base + offset;
    }
    pthread_mutex_unlock(&arrays.busy);
    return at;
}
