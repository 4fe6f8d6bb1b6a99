/* The pair between two ranks of a host: lines that one writes and the other takes in turn, and data beside them. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "port_shm.h"

#ifndef CROSSING              /* tests choose less */
#define CROSSING (1ull << 30) /* bytes for one system call: the kernel moves at most 2 GiB - 4 KiB */
#endif
#define LINE 64u

_Static_assert(sizeof(shm_line) == LINE && sizeof(inbox) == PAGE, "as documented");

int pair_open(pair *q) {
    char *base = (char *)(uintptr_t)q->pointer; /* in this process: one mapping, as thread sanitizers need it */
    if (q->out != NULL) return TC_OK;
    int status = base ? TC_OK : pool_map(&q->address, q->offset, PAIR_BYTES, &base);
    if (status == TC_OK) q->out = (inbox *)(void *)base;
    return status;
}

static bool line_free(pair *q) {
    if (q->written - q->taken < LINES) return true;
    q->taken = atomic_load_explicit(&q->out->taken, memory_order_acquire);
    return q->written - q->taken < LINES;
}

static uint64_t rounded(uint64_t bytes, uint64_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

/* Find room for data in one piece. Where all is free, it begins at the start: little traffic uses little memory. */
static bool data_free(pair *q, uint64_t bytes) {
    for (int look = 0; look < 2; look++) {
        uint64_t start = q->next;
        if (q->freed == start || start % DATA + bytes > DATA) start = rounded(start, DATA);
        if (q->freed == q->next) q->freed = start;
        if (start + bytes <= q->freed + DATA) {
            q->next = start;
            return true;
        }
        uint64_t freed = atomic_load_explicit(&q->out->freed, memory_order_acquire);
        if (freed > q->freed) q->freed = freed;
    }
    return false;
}

int pair_write(pair *q, shm_line line, const char *data) {
    bool beside = line.kind == LONG || line.kind == PART;
    if (!line_free(q) || (beside && !data_free(q, line.part))) return TC_AGAIN;
    if (beside) {
        line.at = q->next;
        memcpy(q->out->data + q->next % DATA, data, line.part);
        q->next += rounded(line.part, LINE);
    }
    shm_line *to = &q->out->lines[q->written % LINES];
    memcpy((char *)to + sizeof to->turn, (char *)&line + sizeof to->turn, sizeof line - sizeof to->turn);
    atomic_store_explicit(&to->turn, ++q->written, memory_order_release);
    return TC_OK;
}

const shm_line *pair_next(const pair *q, const char **data) {
    const shm_line *line = &q->in->lines[q->read % LINES];
    if (atomic_load_explicit(&line->turn, memory_order_acquire) != q->read + 1) return NULL;
    bool beside = line->kind == LONG || line->kind == PART;
    *data = beside ? q->in->data + line->at % DATA : line->data;
    return line;
}

void pair_took(pair *q, const shm_line *line) {
    if (line->kind == LONG || line->kind == PART)
        atomic_store_explicit(&q->in->freed, line->at + rounded(line->part, LINE), memory_order_release);
    atomic_store_explicit(&q->in->taken, ++q->read, memory_order_release);
}

int pair_keep(pair *q, const shm_line *line, const char *data) {
    uint64_t bytes = line->kind == LONG || line->kind == PART ? line->part : line->kind == SHORT ? line->bytes : 0;
    kept *k = malloc(sizeof *k + bytes);
    if (k == NULL) return TC_ERR_NO_MEMORY;
    memcpy((char *)&k->line, (const char *)line, sizeof *line);
    memcpy(k->data, data, bytes);
    kept **end = &q->kept;
    while (*end) end = &(*end)->next;
    k->next = NULL;
    *end = k;
    return TC_OK;
}

int pair_fetch(const pair *q, char *to, uint64_t from, uint64_t bytes) {
    while (bytes) {
        uint64_t part = bytes < CROSSING ? bytes : CROSSING;
        struct iovec here = {to, part}, there = {(void *)(uintptr_t)from, part};
        ssize_t moved = process_vm_readv(q->address.pid, &here, 1, &there, 1, 0);
        if (moved <= 0) return moved < 0 && errno == ESRCH ? TC_ERR_PEER_LOST : TC_ERR_DENIED;
        to += moved;
        from += (uint64_t)moved;
        bytes -= (uint64_t)moved;
    }
    return TC_OK;
}
