/* The order of a program's steps: every message posted once and in turn, waited for only when posted. */
#include <stdlib.h>

#include "program.h"

typedef struct peer_count {
    int32_t peer;
    int64_t sent, posted; /* messages so far */
    uint32_t base[2];     /* the first of those received, of those sent, among all */
    uint32_t loop[2];     /* the last loop that receives, that sends */
} peer_count;

typedef struct order {
    tc_program *program;
    peer_count *peers;
    size_t npeers;
    uint64_t messages;
    uint32_t loop; /* the step after the LOOP whose body is checked; 0 outside, and where it does not repeat */
    char *text;
} order;

static int compare(const void *left, const void *right) {
    int32_t a = ((const peer_count *)left)->peer, b = ((const peer_count *)right)->peer;
    return (a > b) - (a < b);
}

static peer_count *find(const order *o, int32_t peer) {
    peer_count key = {.peer = peer};
    return bsearch(&key, o->peers, o->npeers, sizeof key, compare);
}

/* The peers that any step names, each once. */
static int collect_peers(order *o) {
    const tc_program *p = o->program;
    o->peers = calloc((size_t)p->nsteps + 1, sizeof *o->peers);
    if (o->peers == NULL) return TC_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < p->nsteps; i++) o->peers[i].peer = p->steps[i].peer;
    qsort(o->peers, p->nsteps, sizeof *o->peers, compare);
    for (uint32_t i = 0; i < p->nsteps; i++)
        if (i == 0 || o->peers[i].peer != o->peers[o->npeers - 1].peer) o->peers[o->npeers++].peer = o->peers[i].peer;
    return TC_OK;
}

static int check_copy(const order *o, uint32_t i, const step *s) {
    const tc_program *p = o->program;
    if ((int64_t)s->source + s->runs > p->nranges)
        return refuse(o->text, "step %u: runs %d and %d more; there are %u", i, s->source, s->runs, p->nranges);
    for (int32_t k = 0; k < s->runs; k++)
        if (p->ranges[s->first + k].length != p->ranges[s->source + k].length)
            return refuse(o->text, "step %u: copies runs of other lengths", i);
    return TC_OK;
}

/* Count the messages of a SEND or RECV. Two of a loop's body would be numbered in another order than they are posted. */
static int count_messages(order *o, uint32_t i, const step *s, int64_t times, peer_count *peer) {
    bool sends = s->code == SEND;
    int64_t *known = sends ? &peer->sent : &peer->posted;
    if (s->message != *known)
        return refuse(o->text, "step %u: message %d of rank %d; %lld is the next", i, s->message, s->peer,
                      (long long)*known);
    if (o->loop && peer->loop[sends] == o->loop)
        return refuse(o->text, "step %u: a second message of the loop in one direction with rank %d", i, s->peer);
    peer->loop[sends] = o->loop;
    *known += times;
    o->messages += (uint64_t)times;
    if (o->messages > MAX_MESSAGES)
        return refuse(o->text, "step %u: more than %u messages, which is this engine's limit", i, MAX_MESSAGES);
    int64_t blocks = step_blocks(o->program, s);
    if (blocks > o->program->widest) o->program->widest = blocks;
    return TC_OK;
}

static int check_message(order *o, uint32_t i, const step *s, int64_t times) {
    const tc_program *p = o->program;
    if (s->peer < 0 || s->peer >= p->size || s->peer == p->rank || s->message < 0)
        return refuse(o->text, "step %u: message %d of rank %d", i, s->message, s->peer);
    peer_count *peer = find(o, s->peer);
    if (s->code == SEND || s->code == RECV) return count_messages(o, i, s, times, peer);
    int64_t known = s->code == WAIT && s->flags & SENT ? peer->sent : peer->posted;
    int64_t count = s->code == WAIT ? s->count : 1;
    if (times - 1 + count < 1 || s->message + times - 1 + count > known)
        return refuse(o->text, "step %u: message %d of rank %d: %lld are under way", i, s->message, s->peer,
                      (long long)known);
    return TC_OK;
}

static int check_step(order *o, uint32_t i, int64_t times) {
    const tc_program *p = o->program;
    const step *s = &p->steps[i];
    if (s->code < COPY || s->code > FENCE) return refuse(o->text, "step %u: code %d is none", i, s->code);
    if (s->first < 0 || s->runs < 0 || s->count < 0 || (int64_t)s->first + s->runs > p->nranges)
        return refuse(o->text, "step %u: runs %d and %d more; there are %u", i, s->first, s->runs, p->nranges);
    if (s->code == COPY || s->code == REDUCE || (s->code == RECV && !(s->flags & LAND)))
        for (int32_t k = 0; k < s->runs; k++)
            if (p->ranges[s->first + k].role == SEND_ROLE)
                return refuse(o->text, "step %u: writes to the caller's send buffer", i);
    if (s->code == COPY && s->source >= 0) return check_copy(o, i, s);
    return s->code == FENCE ? TC_OK : check_message(o, i, s, times);
}

static int check_loop(order *o, uint32_t i) {
    const step *s = &o->program->steps[i];
    uint32_t left = o->program->nsteps - i - 1;
    if (s->count < 1 || s->source < 1 || (uint32_t)s->source >= o->program->nsteps - i)
        return refuse(o->text, "step %u: a loop of %d times %d steps; %u follow", i, s->count, s->source, left);
    for (int32_t k = 1; k <= s->source; k++) {
        int32_t code = o->program->steps[i + (uint32_t)k].code;
        if (code == LOOP || code == FENCE) return refuse(o->text, "step %u: a loop with a loop or a fence in it", i);
    }
    o->loop = s->count > 1 ? i + 1 : 0;
    return TC_OK;
}

static int check_all(order *o) {
    const step *steps = o->program->steps;
    uint32_t inside = 0;
    int64_t times = 1;
    for (uint32_t i = 0; i < o->program->nsteps; i++) {
        int status;
        if (steps[i].code == LOOP && inside == 0) {
            status = check_loop(o, i);
            inside = (uint32_t)steps[i].source;
            times = steps[i].count;
        } else {
            if (!inside) o->loop = 0;
            status = check_step(o, i, inside ? times : 1);
            if (inside) inside--;
        }
        if (status != TC_OK) return status;
    }
    return TC_OK;
}

/* Number all messages through, and say of each step which is its first. */
static int number_messages(order *o) {
    tc_program *p = o->program;
    uint32_t next = 0;
    for (size_t k = 0; k < o->npeers; k++) {
        o->peers[k].base[0] = next;
        o->peers[k].base[1] = next + (uint32_t)o->peers[k].posted;
        next = o->peers[k].base[1] + (uint32_t)o->peers[k].sent;
    }
    p->nmessages = next;
    p->message = malloc((size_t)p->nsteps * sizeof *p->message);
    p->sources = malloc((o->npeers + 1) * sizeof *p->sources);
    if (p->message == NULL || p->sources == NULL) return TC_ERR_NO_MEMORY;
    for (size_t k = 0; k < o->npeers; k++)
        if (o->peers[k].posted)
            p->sources[p->nsources++] = (source){o->peers[k].peer, o->peers[k].base[0], (uint32_t)o->peers[k].posted};
    for (uint32_t i = 0; i < p->nsteps; i++) {
        const step *s = &p->steps[i];
        bool named = s->code != FENCE && s->code != LOOP && !(s->code == COPY && s->source >= 0);
        bool sent = s->code == SEND || (s->code == WAIT && s->flags & SENT);
        p->message[i] = named ? find(o, s->peer)->base[sent] + (uint32_t)s->message : NONE;
    }
    return TC_OK;
}

int order_check(tc_program *program, char *text) {
    order o = {.program = program, .text = text};
    int status = collect_peers(&o);
    if (status == TC_OK) status = check_all(&o);
    if (status == TC_OK) status = number_messages(&o);
    free(o.peers);
    return status;
}
