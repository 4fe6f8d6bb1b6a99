/* Reading a program: the bytes, and whether it keeps to its memory. */
#include "program.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 0x54435047
#define VERSION 1
#define HEADER 16 /* numbers of 64 bits */

static uint64_t little(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | at[i];
    return value;
}

/* Read `n` numbers of 32 bits; one more is allocated, so that nothing is no failure. */
static int32_t *numbers(const unsigned char **at, uint64_t n) {
    int32_t *out = malloc((n + 1) * sizeof *out);
    if (out == NULL) return NULL;
    for (uint64_t i = 0; i < n; i++) out[i] = (int32_t)little(*at + 4 * i, 4);
    *at += 4 * n;
    return out;
}

static int read_header(tc_program *p, const unsigned char *at, size_t length, char *text) {
    int64_t h[HEADER];
    if (length < 8 * HEADER) return refuse(text, "%zu bytes, a header has %d", length, 8 * HEADER);
    for (int i = 0; i < HEADER; i++) h[i] = (int64_t)little(at + 8 * i, 8);
    if (h[0] != MAGIC || h[1] != VERSION) return refuse(text, "not a program of version %d", VERSION);
    static const int widths[] = {8, 5, 1, 1, 1, 1};
    uint64_t room = (length - 8 * HEADER) / 4, sum = 0;
    for (int i = 0; i < 6; i++) {
        if (h[6 + i] < 0 || (uint64_t)h[6 + i] > room) return refuse(text, "%zu bytes do not hold its entries", length);
        sum += (uint64_t)h[6 + i] * widths[i];
    }
    if (8 * HEADER + 4 * sum != length) return refuse(text, "%zu bytes do not hold its entries", length);
    if (room > INT32_MAX) return refuse(text, "%zu bytes are more than this engine takes", length);
    p->rank = h[2];
    p->size = h[3];
    p->nslots = h[4];
    p->pieces = h[5];
    p->nsteps = (uint32_t)h[6];
    p->nranges = (uint32_t)h[7];
    for (int role = 0; role < ROLES; role++) p->positions[role] = (uint32_t)h[8 + role];
    p->nvector = (uint32_t)h[11];
    return TC_OK;
}

static int read_arrays(tc_program *p, const unsigned char *at) {
    at += 8 * HEADER;
    p->steps = (step *)numbers(&at, 8ull * p->nsteps);
    p->ranges = (range *)numbers(&at, 5ull * p->nranges);
    for (int role = 0; role < ROLES; role++) p->layout[role] = numbers(&at, p->positions[role]);
    p->vector = numbers(&at, p->nvector);
    bool whole = p->steps && p->ranges && p->layout[0] && p->layout[1] && p->layout[2] && p->vector;
    return whole ? TC_OK : TC_ERR_NO_MEMORY;
}

static bool slots_known(const tc_program *p, const int32_t *slots, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (slots[i] < 0 || slots[i] >= p->nslots) return false;
    return true;
}

static int check_shape(const tc_program *p, char *text) {
    if (p->rank < 0 || p->rank >= p->size) return refuse(text, "rank %lld of %lld", (long long)p->rank,
                                                         (long long)p->size);
    if (p->pieces < 1 || p->nslots < 0 || p->nslots % p->pieces)
        return refuse(text, "%lld slots, %lld a block", (long long)p->nslots, (long long)p->pieces);
    if (p->nslots > MAX_SLOTS) return refuse(text, "%lld slots are more than this engine takes", (long long)p->nslots);
    if (p->pieces > MAX_PIECES) return refuse(text, "%lld pieces are more than this engine takes", (long long)p->pieces);
    bool known = slots_known(p, p->vector, p->nvector);
    for (int role = 0; role < ROLES; role++) known = known && slots_known(p, p->layout[role], p->positions[role]);
    if (!known) return refuse(text, "a slot that is none of %lld", (long long)p->nslots);
    if (p->nsteps == 0 || p->steps[p->nsteps - 1].code != FENCE) return refuse(text, "no fence at the end");
    return TC_OK;
}

static int check_ranges(const tc_program *p, char *text) {
    for (uint32_t i = 0; i < p->nranges; i++) {
        range r = p->ranges[i];
        if (r.role < 0 || r.role >= ROLES) return refuse(text, "run %u has an unknown role", i);
        int64_t last = r.modulus > r.start ? r.modulus - 1 : r.start; /* wherever a loop moves it */
        int64_t end = r.modulus > 0 ? last + 1 : (int64_t)r.start + r.length;
        if (r.start < 0 || r.length < 0 || r.modulus < 0 || end > p->positions[r.role] ||
            (r.modulus > 0 && r.length != 1))
            return refuse(text, "run %u reaches outside its memory", i);
    }
    return TC_OK;
}

static int prepare(tc_program *p, const unsigned char *bytes, size_t length, char *text) {
    int status = read_header(p, bytes, length, text);
    if (status == TC_OK) status = read_arrays(p, bytes);
    if (status == TC_OK) status = check_shape(p, text);
    if (status == TC_OK) status = check_ranges(p, text);
    if (status == TC_OK) status = order_check(p, text);
    if (status == TC_OK) status = landing_plan(p, text);
    return status;
}

int tc_program_load(const void *bytes, size_t length, tc_program **program, char *text) {
    if (bytes == NULL || program == NULL || text == NULL) return TC_ERR_ARGUMENT;
    tc_program *p = calloc(1, sizeof *p);
    if (p == NULL) return TC_ERR_NO_MEMORY;
    text[0] = 0;
    p->holders = 1;
    int status = prepare(p, bytes, length, text);
    if (status == TC_OK)
        *program = p;
    else
        tc_program_free(p);
    return status;
}

int tc_program_info(const tc_program *p, tc_program_facts *facts) {
    if (p == NULL || facts == NULL) return TC_ERR_ARGUMENT;
    *facts = (tc_program_facts){.rank = (uint32_t)p->rank, .size = (uint32_t)p->size,
                                .positions = {p->positions[0], p->positions[1], p->positions[2]},
                                .blocks = p->nvector / (uint64_t)p->pieces, .pieces = (uint64_t)p->pieces,
                                .messages = p->nmessages, .landings = p->nregions};
    return TC_OK;
}

void program_release(tc_program *p) {
    if (atomic_fetch_sub(&p->holders, 1) != 1) return;
    void *parts[] = {p->steps, p->ranges, p->layout[0], p->layout[1], p->layout[2], p->vector, p->message, p->sources,
                     p->poster, p->lander_of, p->landers, p};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
}

int tc_program_free(tc_program *p) {
    if (p == NULL) return TC_ERR_ARGUMENT;
    program_release(p);
    return TC_OK;
}
