/* Where messages land: the program is run without its data, so every repetition of a loop is checked as it will run, and
 * of every message it is known when its memory is taken and when it is free again. Then steps whose messages are never
 * there at the same time share a region.
 */
#include <stdlib.h>
#include <string.h>

#include "program.h"

enum { POSTED = 1, WAITED = 2, TAKEN = 4 };

typedef struct rehearsal {
    tc_program *program;
    unsigned char *state;
    uint32_t *begin, *end; /* of each message, in steps from the start, loops written out */
    uint32_t *open;        /* posted since the last fence */
    uint32_t nopen, tick, work;
    char *text;
} rehearsal;

static int bad(const rehearsal *r, uint32_t i, const char *reason) {
    const step *s = &r->program->steps[i];
    return refuse(r->text, "step %u: message %d of rank %d: %s", i, s->message, s->peer, reason);
}

static bool lands(const rehearsal *r, uint32_t message) {
    const step *s = &r->program->steps[r->program->poster[message]];
    return s->code == RECV && s->flags & LAND;
}

static int post(rehearsal *r, uint32_t i, uint32_t message) {
    r->state[message] = POSTED;
    r->program->poster[message] = i;
    r->begin[message] = r->end[message] = r->tick;
    r->open[r->nopen++] = message;
    return TC_OK;
}

static void arrive(rehearsal *r, uint32_t message) {
    if (!lands(r, message)) r->end[message] = r->tick;
}

/* After the first repetition only the last message of a WAIT is new. */
static int await(rehearsal *r, uint32_t i, uint32_t message, uint32_t turn) {
    uint32_t count = (uint32_t)r->program->steps[i].count;
    for (uint32_t k = turn && count ? count - 1 : 0; k < count; k++) {
        if (!(r->state[message + k] & POSTED)) return bad(r, i, "waited for before it is posted");
        if (!(r->state[message + k] & WAITED)) arrive(r, message + k);
        r->state[message + k] |= WAITED;
        if (++r->work > MAX_WORK) return bad(r, i, "more steps than this engine takes");
    }
    return TC_OK;
}

static int take(rehearsal *r, uint32_t i, uint32_t message) {
    if (!(r->state[message] & POSTED) || !lands(r, message) || r->state[message] & TAKEN)
        return bad(r, i, "it does not land, or was taken already");
    if (!(r->state[message] & WAITED)) return bad(r, i, "taken before it was waited for");
    const tc_program *p = r->program;
    if (step_blocks(p, &p->steps[i]) != step_blocks(p, &p->steps[p->poster[message]]))
        return bad(r, i, "its blocks are not as many as the message has");
    r->state[message] |= TAKEN;
    r->end[message] = r->tick;
    return TC_OK;
}

static void fence(rehearsal *r) {
    for (uint32_t k = 0; k < r->nopen; k++)
        if (!(r->state[r->open[k]] & WAITED)) arrive(r, r->open[k]);
    r->nopen = 0;
}

static int rehearse_step(rehearsal *r, uint32_t i, uint32_t turn) {
    const step *s = &r->program->steps[i];
    uint32_t message = r->program->message[i] + turn;
    r->tick++;
    r->work += 1 + (uint32_t)s->runs / 16;
    if (r->work > MAX_WORK) return refuse(r->text, "step %u: more steps than this engine takes", i);
    if (s->code == SEND || s->code == RECV) return post(r, i, message);
    if (s->code == WAIT) return await(r, i, message, turn);
    if (s->code == REDUCE || (s->code == COPY && s->source < 0)) return take(r, i, message);
    if (s->code == FENCE) fence(r);
    return TC_OK;
}

static int rehearse_loop(rehearsal *r, uint32_t i) {
    const step *s = &r->program->steps[i];
    for (int32_t turn = 0; turn < s->count; turn++)
        for (int32_t k = 1; k <= s->source; k++) {
            int status = rehearse_step(r, i + (uint32_t)k, (uint32_t)turn);
            if (status != TC_OK) return status;
        }
    return TC_OK;
}

static int rehearse(rehearsal *r) {
    const tc_program *p = r->program;
    for (uint32_t i = 0; i < p->nsteps; i++) {
        bool loop = p->steps[i].code == LOOP;
        int status = loop ? rehearse_loop(r, i) : rehearse_step(r, i, 0);
        if (status != TC_OK) return status;
        if (loop) i += (uint32_t)p->steps[i].source;
    }
    for (uint32_t m = 0; m < p->nmessages; m++)
        if (lands(r, m) && !(r->state[m] & TAKEN)) return bad(r, p->poster[m], "lands and is never taken");
    return TC_OK;
}

/* A loop's messages take turns in `copies` places: each is over before the one that follows it there is posted. */
static lander make_lander(const rehearsal *r, uint32_t i, uint32_t times) {
    const uint32_t *begin = r->begin + r->program->message[i], *end = r->end + r->program->message[i];
    lander out = {.step = i, .copies = 1, .begin = begin[0], .end = end[0]};
    for (uint32_t turn = 0; turn < times; turn++) {
        while (turn + out.copies < times && begin[turn + out.copies] <= end[turn]) out.copies++;
        if (end[turn] > out.end) out.end = end[turn];
    }
    return out;
}

static bool needs_memory(const tc_program *p, const step *s) {
    if (s->code == RECV && s->flags & LAND) return step_blocks(p, s) > 0;
    return (s->code == RECV || s->code == SEND) && s->runs > 1;
}

static int find_landers(rehearsal *r) {
    tc_program *p = r->program;
    uint32_t times = 1, inside = 0;
    for (uint32_t i = 0; i < p->nsteps; i++) {
        const step *s = &p->steps[i];
        p->lander_of[i] = NONE;
        if (needs_memory(p, s)) {
            p->lander_of[i] = p->nlanders;
            p->landers[p->nlanders++] = make_lander(r, i, inside ? times : 1);
        }
        if (s->code == LOOP) {
            times = (uint32_t)s->count;
            inside = (uint32_t)s->source;
        } else if (inside) {
            inside--;
        }
    }
    return TC_OK;
}

typedef struct region {
    uint32_t end; /* of the lander that has it */
    int64_t blocks;
} region;

/* Give a lander the free region that fits best, or a new one. Landers come in the order in which they begin. */
static void share(tc_program *p, lander *l, region *regions) {
    int64_t blocks = step_blocks(p, &p->steps[l->step]) * l->copies, best = INT64_MAX;
    l->region = p->nregions;
    for (uint32_t k = 0; k < p->nregions; k++) {
        int64_t waste = blocks > regions[k].blocks ? blocks - regions[k].blocks : regions[k].blocks - blocks;
        if (regions[k].end < l->begin && waste < best) {
            best = waste;
            l->region = k;
        }
    }
    if (l->region == p->nregions) regions[p->nregions++] = (region){0, 0};
    region *mine = &regions[l->region];
    mine->end = l->end;
    if (blocks > mine->blocks) mine->blocks = blocks;
}

static int plan(rehearsal *r) {
    tc_program *p = r->program;
    int status = rehearse(r);
    if (status != TC_OK) return status;
    find_landers(r);
    region *regions = malloc(((size_t)p->nlanders + 1) * sizeof *regions);
    if (regions == NULL) return TC_ERR_NO_MEMORY;
    for (uint32_t k = 0; k < p->nlanders; k++) share(p, &p->landers[k], regions);
    free(regions);
    return TC_OK;
}

int landing_plan(tc_program *p, char *text) {
    size_t messages = (size_t)p->nmessages + 1, steps = p->nsteps;
    p->poster = calloc(messages, sizeof *p->poster);
    p->lander_of = malloc(steps * sizeof *p->lander_of);
    p->landers = malloc(steps * sizeof *p->landers);
    rehearsal r = {.program = p, .text = text};
    r.state = calloc(messages, 1);
    r.begin = calloc(messages, sizeof *r.begin);
    r.end = calloc(messages, sizeof *r.end);
    r.open = malloc(messages * sizeof *r.open);
    bool whole = p->poster && p->lander_of && p->landers && r.state && r.begin && r.end && r.open;
    int status = whole ? plan(&r) : TC_ERR_NO_MEMORY;
    void *parts[] = {r.state, r.begin, r.end, r.open};
    for (int i = 0; i < 4; i++) free(parts[i]);
    return status;
}
