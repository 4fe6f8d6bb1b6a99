/* Registered memory: ours (a memory file that peers on the node map), or the caller's (reached by cross-memory attach);
 * and landings, where a network puts strided blocks. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define OLD_LANDINGS 4u
#define OLD_BYTES (64ull << 20)

static tc_memory *take_handle(tc_context *context) {
    tc_memory *memory = context->free_memories;
    if (memory) context->free_memories = memory->next;
    else memory = malloc(sizeof *memory);
    if (memory) *memory = (tc_memory){.context = context, .live = true, .descriptor = -1};
    return memory;
}

static void put_handle(tc_memory *memory) {
    memory->live = false;
    memory->next = memory->context->free_memories;
    memory->context->free_memories = memory;
}

static void unmap(tc_memory *memory) {
    if (memory->landing || (memory->kind == TC_SHARED && !memory->kept)) munmap(memory->base, memory->bytes);
    if (memory->descriptor >= 0) close(memory->descriptor);
}

static void withdraw(tc_memory *memory) {
    for (uint32_t i = 0; i < TRANSPORTS; i++) {
        tc_transport *t = memory->context->transports[i];
        if (t && t->withdraw) t->withdraw(t, memory);
    }
}

static int enrol(tc_memory *memory) {
    int status = TC_OK;
    for (uint32_t i = 0; i < TRANSPORTS && status == TC_OK; i++) {
        tc_transport *t = memory->context->transports[i];
        if (t && t->enrol) status = t->enrol(t, memory);
    }
    if (status) withdraw(memory);
    return status;
}

static int finish(tc_memory *memory, tc_memory **out) {
    tc_context *context = memory->context;
    enter(context);
    int status = enrol(memory);
    leave(context);
    if (status) {
        unmap(memory);
        put_handle(memory);
        return status;
    }
    memory->next = context->memories;
    context->memories = memory;
    *out = memory;
    return TC_OK;
}

int tc_memory_allocate(tc_context *context, uint64_t bytes, tc_memory **out) {
    if (!context || !out || bytes > (1ull << 46)) return TC_ERR_ARGUMENT;
    uint64_t size = bytes ? bytes : 1;
    int fd = memfd_create("topocomm-memory", MFD_CLOEXEC);
    if (fd < 0) return TC_ERR_NO_MEMORY;
    void *base = ftruncate(fd, (off_t)size) ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    tc_memory *memory = base == MAP_FAILED ? NULL : take_handle(context);
    if (!memory) {
        if (base != MAP_FAILED) munmap(base, size);
        close(fd);
        return TC_ERR_NO_MEMORY;
    }
    memory->kind = TC_SHARED;
    memory->base = base;
    memory->bytes = size;
    memory->descriptor = fd;
    return finish(memory, out);
}

int tc_memory_register(tc_context *context, void *base, uint64_t bytes, tc_memory **out) {
    if (!context || !out || (!base && bytes)) return TC_ERR_ARGUMENT;
    tc_memory *memory = take_handle(context);
    if (!memory) return TC_ERR_NO_MEMORY;
    memory->kind = TC_PRIVATE;
    memory->base = base;
    memory->bytes = bytes;
    return finish(memory, out);
}

int tc_memory_base(tc_memory *memory, void **base, uint64_t *bytes) {
    if (!memory || !base || !bytes) return TC_ERR_ARGUMENT;
    if (!memory->live) return TC_ERR_FREED;
    *base = memory->base;
    *bytes = memory->bytes;
    return TC_OK;
}

int tc_memory_free(tc_memory *memory) {
    if (!memory) return TC_ERR_ARGUMENT;
    if (!memory->live) return TC_ERR_FREED;
    if (memory->blocks) return TC_ERR_BUSY;
    tc_context *context = memory->context;
    tc_memory **link = &context->memories;
    while (*link && *link != memory) link = &(*link)->next;
    if (*link) *link = memory->next;
    enter(context);
    withdraw(memory);
    leave(context);
    unmap(memory);
    put_handle(memory);
    return TC_OK;
}

/* --- landings ----------------------------------------------------------------------------------------------------- */
int landing_allocate(tc_context *context, uint64_t bytes, tc_memory **out) {
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tc_memory *memory = base == MAP_FAILED ? NULL : take_handle(context);
    if (!memory) {
        if (base != MAP_FAILED) munmap(base, bytes);
        return TC_ERR_NO_MEMORY;
    }
    memory->kind = TC_PRIVATE;
    memory->landing = true;
    memory->base = base;
    memory->bytes = bytes;
    return finish(memory, out);
}

static uint64_t pages(const tc_memory *memory) {
    return (memory->bytes + 4095) & ~4095ull;
}

static tc_memory *oldest(tc_context *context) {
    tc_memory *memory = context->old_landings;
    context->old_landings = memory->old;
    context->old_bytes -= pages(memory);
    return memory;
}

/* Its block was freed, but a put may be under way, and would fail, with the whole connection, if it found no memory.
 * So landings stay for a while: the last OLD_LANDINGS, and older ones while all are within OLD_BYTES. */
void landing_retire(tc_memory *landing) {
    tc_context *context = landing->context;
    landing->old = NULL;
    *(context->old_landings ? &context->last_landing->old : &context->old_landings) = landing;
    context->last_landing = landing;
    context->old_bytes += pages(landing);
    context->old_count++;
    while (context->old_count > OLD_LANDINGS && context->old_bytes > OLD_BYTES) {
        context->old_count--;
        tc_memory_free(oldest(context));
    }
}

int tc_memory_keep(tc_memory *memory) {
    if (!memory || memory->kind != TC_SHARED) return TC_ERR_ARGUMENT;
    if (!memory->live) return TC_ERR_FREED;
    memory->kept = true;
    return TC_OK;
}

int tc_memory_unmap(void *base, uint64_t bytes) {
    return base && munmap(base, bytes) == 0 ? TC_OK : TC_ERR_ARGUMENT;
}
