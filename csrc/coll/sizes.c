/* Sizes of a run: where every position lies, and the memory that scratch, landings and requests take. */
#include <stdlib.h>
#include <string.h>

#include "run.h"

#define ALIGN 64u
#define KEPT_BY_RUN (1u << 16)
#define KEPT_BY_COMM (1u << 26)
#define MOST ((int64_t)1 << 60) /* bytes of one role */

segment range_of(const tc_run *run, uint32_t first, uint32_t k, uint32_t turn) {
    const range *r = &run->program->ranges[first + k];
    int64_t start = r->start;
    if (r->modulus > 0) {
        start = (start + (int64_t)turn * r->stride) % r->modulus;
        if (start < 0) start += r->modulus;
    }
    const int64_t *cut = run->cut[r->role] + start;
    return (segment){run->base[r->role] + cut[0], cut[r->length] - cut[0]};
}

char *landing_of(const tc_run *run, uint32_t message) {
    const tc_program *p = run->program;
    uint32_t i = p->poster[message], number = p->lander_of[i];
    const lander *l = &p->landers[number];
    uint32_t turn = (message - p->message[i]) % l->copies;
    return run->memory + run->region[l->region] + turn * run->stride[number];
}

/* Bytes of piece `k` of a block of `count` elements. */
static int64_t piece_bytes(const tc_program *p, int64_t count, int64_t k, int64_t item) {
    __int128 end = (__int128)count * (k + 1) / p->pieces, start = (__int128)count * k / p->pieces;
    return (int64_t)(end - start) * item;
}

/* The sizes of all slots: one number for each piece of a block if all blocks are alike, else one for each slot. */
static int64_t *slot_sizes(const tc_program *p, const int64_t *counts, size_t n, int64_t item) {
    uint64_t entries = n ? (uint64_t)p->nslots : (uint64_t)p->pieces;
    int64_t *out = calloc(entries + 1, sizeof *out);
    if (out == NULL) return NULL;
    if (n == 0)
        for (int64_t k = 0; k < p->pieces; k++) out[k] = piece_bytes(p, counts[0], k, item);
    for (size_t block = 0; block < n; block++)
        for (int64_t k = 0; k < p->pieces; k++)
            out[p->vector[block * (size_t)p->pieces + (size_t)k]] = piece_bytes(p, counts[block], k, item);
    return out;
}

/* Lay out the positions of a role; return the widest of them, or -1 if they do not fit an address space. */
static int64_t lay_out(tc_run *run, int role, const int64_t *sizes, bool alike) {
    const tc_program *p = run->program;
    int64_t at = 0, widest = 0, *cut = run->cut[role];
    for (uint32_t i = 0; i < p->positions[role]; i++) {
        int64_t bytes = sizes[alike ? p->layout[role][i] % p->pieces : p->layout[role][i]];
        cut[i] = at;
        at += bytes;
        if (bytes > widest) widest = bytes;
        if (at > MOST) return -1;
    }
    cut[p->positions[role]] = at;
    return widest;
}

/* Return at least the bytes of a step's message in any repetition. */
static uint64_t most_bytes(const tc_run *run, const step *s, const int64_t *widest) {
    uint64_t bytes = 0;
    for (int32_t k = 0; k < s->runs; k++) {
        const range *r = &run->program->ranges[s->first + k];
        const int64_t *cut = run->cut[r->role] + r->start;
        bytes += (uint64_t)(r->modulus > 0 ? widest[r->role] : cut[r->length] - cut[0]);
        if (bytes > (uint64_t)MOST) return MOST;
    }
    return bytes;
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int place_regions(tc_run *run, const int64_t *widest) {
    const tc_program *p = run->program;
    memset(run->region, 0, ((size_t)p->nregions + 1) * sizeof *run->region);
    for (uint32_t k = 0; k < p->nlanders; k++) {
        const lander *l = &p->landers[k];
        run->stride[k] = aligned(most_bytes(run, &p->steps[l->step], widest));
        if (run->stride[k] > (uint64_t)MOST / l->copies) return TC_ERR_RANGE;
        uint64_t bytes = run->stride[k] * l->copies;
        if (bytes > run->region[l->region]) run->region[l->region] = bytes;
    }
    uint64_t at = aligned((uint64_t)run->cut[SCRATCH_ROLE][p->positions[SCRATCH_ROLE]]);
    for (uint32_t k = 0; k < p->nregions; k++) {
        uint64_t bytes = run->region[k];
        run->region[k] = at;
        at += bytes;
        if (at > (uint64_t)MOST) return TC_ERR_RANGE;
    }
    run->memory_bytes = at;
    return TC_OK;
}

/* Requests that the longest message needs. Steps are looked at only if some message might need two. */
static int count_chunks(tc_run *run, const int64_t *widest) {
    const tc_program *p = run->program;
    uint64_t largest = run->comm->mpi.largest, longest = 1;
    int64_t wide = widest[0] > widest[1] ? widest[0] : widest[1];
    if (widest[2] > wide) wide = widest[2];
    if ((__int128)wide * p->widest > (__int128)largest)
        for (uint32_t i = 0; i < p->nsteps; i++)
            if (p->steps[i].code == SEND || p->steps[i].code == RECV) {
                uint64_t bytes = most_bytes(run, &p->steps[i], widest);
                if (bytes > longest) longest = bytes;
            }
    uint64_t chunks = (longest + largest - 1) / largest;
    if (chunks > (uint64_t)1 << 24 || chunks * (p->nmessages + 1ull) > (uint64_t)1 << 32) return TC_ERR_RANGE;
    run->chunks = (uint32_t)chunks;
    return TC_OK;
}

static int reserve(char **memory, uint64_t *room, uint64_t bytes) {
    if (bytes <= *room) return TC_OK;
    free(*memory);
    *room = 0;
    *memory = aligned_alloc(ALIGN, aligned(bytes));
    if (*memory == NULL) return TC_ERR_NO_MEMORY;
    *room = bytes;
    return TC_OK;
}

static int give_sizes(tc_run *run, const int64_t *sizes, bool alike) {
    int64_t widest[ROLES];
    for (int role = 0; role < ROLES; role++) {
        widest[role] = lay_out(run, role, sizes, alike);
        if (widest[role] < 0) return TC_ERR_RANGE;
    }
    int status = place_regions(run, widest);
    if (status == TC_OK) status = count_chunks(run, widest);
    uint64_t requests = (run->program->nmessages + 1ull) * run->chunks * run->comm->mpi.request_bytes;
    if (status == TC_OK) status = reserve(&run->requests, &run->request_room, requests);
    return status;
}

int tc_run_sizes(tc_run *run, const int64_t *counts, size_t n, int64_t item) {
    if (run == NULL || counts == NULL || item < 1) return TC_ERR_ARGUMENT;
    if (run->status == TC_AGAIN || run->status == TC_NEEDS_REDUCE || run->pending) return TC_ERR_BUSY;
    const tc_program *p = run->program;
    if (n != 0 && n * (uint64_t)p->pieces != p->nvector) return TC_ERR_ARGUMENT;
    for (size_t i = 0; i < (n ? n : 1); i++)
        if (counts[i] < 0 || counts[i] > MOST / item) return TC_ERR_RANGE;
    run->sized = false;
    int64_t *sizes = slot_sizes(p, counts, n, item);
    if (sizes == NULL) return TC_ERR_NO_MEMORY;
    int status = give_sizes(run, sizes, n == 0);
    free(sizes);
    run->item = item;
    run->sized = status == TC_OK;
    return status;
}

int tc_run_needs(const tc_run *run, tc_needs *needs) {
    if (run == NULL || needs == NULL || !run->sized) return TC_ERR_ARGUMENT;
    const uint32_t *n = run->program->positions;
    *needs = (tc_needs){(uint64_t)run->cut[SEND_ROLE][n[SEND_ROLE]], (uint64_t)run->cut[RECV_ROLE][n[RECV_ROLE]],
                        run->memory_bytes};
    return TC_OK;
}

/* A run keeps little memory; the communicator keeps one large piece for the next that needs it. */
int memory_take(tc_run *run) {
    tc_comm *comm = run->comm;
    if (run->memory_bytes > run->memory_room && run->memory_bytes <= comm->spare_room) {
        free(run->memory);
        run->memory = comm->spare;
        run->memory_room = comm->spare_room;
        comm->spare = NULL;
        comm->spare_room = 0;
    }
    return reserve(&run->memory, &run->memory_room, run->memory_bytes);
}

void memory_give(tc_run *run) {
    tc_comm *comm = run->comm;
    if (run->memory_room <= KEPT_BY_RUN) return;
    bool keep = run->memory_room > comm->spare_room && run->memory_room <= KEPT_BY_COMM;
    free(keep ? comm->spare : run->memory);
    if (keep) {
        comm->spare = run->memory;
        comm->spare_room = run->memory_room;
    }
    run->memory = NULL;
    run->memory_room = 0;
}

void sizes_free(tc_run *run) {
    for (int role = 0; role < ROLES; role++) free(run->cut[role]);
    void *parts[] = {run->region, run->stride, run->memory, run->requests};
    for (int i = 0; i < 4; i++) free(parts[i]);
}
