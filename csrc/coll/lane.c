/* Lanes: messages through a link, in the order in which they are numbered, with no question asked before. */
#include <string.h>

#include "puts.h"

#define FLUSH_SECONDS 1.0 /* how long what has been put before an error may take to leave */

/* --- queues -------------------------------------------------------------------------------------------------------- */
/* Entries are in the order of their calls, and in a call in that in which they were posted. */
static void add(queue *q, entry *e) {
    entry **at = &q->first;
    while (*at && (*at)->run->number <= e->run->number) at = &(*at)->next;
    e->next = *at;
    *at = e;
}

static entry *take_first(queue *q) {
    entry *e = q->first;
    q->first = e->next;
    e->next = NULL;
    return e;
}

/* A call has its lane for itself: one that takes the same lane later waits for its end. */
static bool its_turn(const tc_run *run) {
    for (const tc_run *other = run->comm->active; other; other = other->next)
        if (other->number < run->number && (run->number - other->number) % TURNS == 0) return false;
    return true;
}

static void end(entry *e, int status) {
    e->status = status;
    e->run->moved++;
}

/* --- places -------------------------------------------------------------------------------------------------------- */
/* Bytes of the message in one part: a lane has room for several parts, so that one is read while another comes. */
static uint64_t most(uint64_t room) {
    return room / 4 - ALIGN;
}

/* Bytes that a part takes in its lane, its heading included. */
static uint64_t taken_by(uint64_t bytes) {
    return ALIGN + (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* The first position from `at` on where `bytes` lie in one piece. */
static uint64_t fit(uint64_t at, uint64_t bytes, uint64_t room) {
    uint64_t inside = at % room;
    return inside + bytes > room ? at + room - inside : at;
}

typedef struct part {
    uint64_t from, bytes; /* of the message */
    bool last;
} part;

static part next_part(const entry *e, uint64_t room) {
    uint64_t length = (uint64_t)e->run->length[e->message], from = e->run->finished[e->message] * most(room);
    uint64_t rest = length - from, bytes = rest < most(room) ? rest : most(room);
    return (part){from, bytes, bytes == rest};
}

static uint32_t number_of(const entry *e) {
    const tc_program *p = e->run->program;
    uint32_t i = p->poster[e->message];
    return (uint32_t)p->steps[i].message + e->message - p->message[i];
}

/* --- coming -------------------------------------------------------------------------------------------------------- */
static void note_consumed(link *l, const uint32_t *consumed) {
    for (uint32_t t = 0; t < TURNS; t++) {
        target_lane *lane = &l->out[t];
        if ((int32_t)(consumed[t] - lane->consumed) <= 0 || (int32_t)(lane->next - consumed[t]) < 0) continue;
        lane->consumed = consumed[t];
        lane->freed_at = lane->end[(consumed[t] - 1) % SLOTS];
    }
}

static void consume(landing_lane *lane) {
    while (lane->consumed != lane->next && !lane->held[lane->consumed % SLOTS])
        lane->freed_at = lane->end[lane->consumed++ % SLOTS];
}

/* Is the caller combining this very message, which must not move then? */
static bool in_hands(const entry *e) {
    const tc_run *run = e->run;
    if (run->status != TC_NEEDS_REDUCE) return false;
    return run->program->message[run->at.step] + run->at.turn == e->message;
}

/* Might the peer soon have to wait for what it does not know to be free? A part takes a quarter of a lane at most, and may
 * leave as much unused at its end. */
static bool pressed(const link *l, const landing_lane *lane) {
    return lane->next - lane->told >= SLOTS - SLOTS / 4 || lane->at - lane->told_at >= l->room / 2;
}

/* What is read where it lies must not keep the peer from going on: copy it. */
static void relieve(const link *l, landing_lane *lane) {
    while (lane->consumed != lane->next && pressed(l, lane)) {
        entry *e = lane->held[lane->consumed % SLOTS];
        if (in_hands(e)) return;
        char *to = landing_of(e->run, e->message);
        memcpy(to, e->run->data[e->message], (size_t)e->run->length[e->message]);
        e->run->data[e->message] = to;
        lane->held[lane->consumed % SLOTS] = NULL;
        consume(lane);
    }
}

void lane_taken(link *l, const entry *e) {
    landing_lane *lane = &l->in[e->run->number % TURNS];
    if (lane->held[e->last % SLOTS] != e) return;
    lane->held[e->last % SLOTS] = NULL;
    consume(lane);
}

static bool lands(const entry *e) {
    const step *s = &e->run->program->steps[e->run->program->poster[e->message]];
    return s->flags & LAND;
}

/* The part that is there belongs to this message, or the ranks' calls differ. */
static int check(landing_lane *lane, entry *e, const heading *h) {
    const tc_run *run = e->run;
    bool right = h->call == (uint32_t)run->number && h->message == number_of(e);
    if (right && h->bytes == (uint64_t)run->length[e->message]) return TC_OK;
    e->found = h->bytes;
    end(take_first(&lane->expected), TC_ERR_LENGTH);
    return TC_ERR_TRANSPORT;
}

static int take(link *l, landing_lane *lane, entry *e) {
    tc_run *run = e->run;
    part p = next_part(e, l->room);
    uint64_t at = fit(lane->at, taken_by(p.bytes), l->room);
    char *found = lane->base + at % l->room + ALIGN;
    heading h;
    memcpy(&h, found - sizeof h, sizeof h);
    int status = check(lane, e, &h);
    if (status != TC_OK) return status;
    note_consumed(l, h.consumed);
    e->last = lane->next++;
    lane->at = lane->end[e->last % SLOTS] = at + taken_by(p.bytes);
    if (p.from == 0 && p.last && p.bytes && lands(e)) {
        run->data[e->message] = found;
        lane->held[e->last % SLOTS] = e;
    } else if (p.bytes) {
        memcpy(run->data[e->message] + p.from, found, (size_t)p.bytes);
    }
    run->finished[e->message]++;
    run->moved++;
    consume(lane);
    if (p.last) end(take_first(&lane->expected), TC_OK);
    return TC_OK;
}

static int receive(link *l, landing_lane *lane) {
    while (lane->expected.first && its_turn(lane->expected.first->run)) {
        tc_signal *signal = lane->signal[lane->next % SLOTS];
        int status = tc_signal_look(signal);
        if (status == TC_AGAIN) break;
        if (status == TC_OK) status = tc_signal_rearm(signal); /* the peer puts there again once it knows it is free */
        if (status == TC_OK) status = take(l, lane, lane->expected.first);
        if (status != TC_OK) return status;
    }
    return TC_OK;
}

/* --- going --------------------------------------------------------------------------------------------------------- */
static int settle(target_lane *lane) {
    while (lane->left != lane->next) {
        int status = tc_plan_test(lane->plan[lane->left % SLOTS]);
        if (status == TC_AGAIN) break;
        if (status != TC_OK) return status;
        lane->left++;
    }
    while (lane->leaving.first && (int32_t)(lane->left - lane->leaving.first->last) > 0)
        end(take_first(&lane->leaving), TC_OK);
    return TC_OK;
}

/* Learn what the peer wrote about what it has consumed. */
static int read_credits(link *l) {
    uint64_t epoch, expected, arrived, early, surplus;
    int status = tc_signal_state(l->credited, &epoch, &expected, &arrived, &early, &surplus);
    if (status == TC_OK && arrived > 0) {
        status = tc_signal_take(l->credited, arrived);
        note_consumed(l, l->credits);
    }
    return status;
}

static bool has_room(const link *l, const target_lane *lane, uint64_t at, uint64_t bytes) {
    return lane->next - lane->consumed < SLOTS && at + bytes - lane->freed_at <= l->room_there;
}

static void write_heading(link *l, heading *h, const entry *e) {
    *h = (heading){(uint32_t)e->run->number, number_of(e), (uint64_t)e->run->length[e->message], {0}, 0};
    for (uint32_t t = 0; t < TURNS; t++) {
        h->consumed[t] = l->in[t].told = l->in[t].consumed;
        l->in[t].told_at = l->in[t].freed_at;
    }
}

/* TC_OK: a part has left · TC_AGAIN: there is no room. */
static int put(link *l, target_lane *lane, entry *e) {
    tc_run *run = e->run;
    part p = next_part(e, l->room_there);
    uint32_t slot = lane->next % SLOTS;
    uint64_t bytes = taken_by(p.bytes), at = fit(lane->at, bytes, l->room_there);
    if (lane->next - lane->left == SLOTS) return TC_AGAIN;
    if (!has_room(l, lane, at, bytes)) {
        int status = read_credits(l);
        if (status != TC_OK || !has_room(l, lane, at, bytes)) return status == TC_OK ? TC_AGAIN : status;
    }
    tc_plan *plan = lane->plan[slot];
    heading *h = &lane->heading[slot];
    write_heading(l, h, e);
    int status = tc_plan_clear(plan);
    if (status == TC_OK)
        status = tc_plan_put_headed(plan, lane->target[slot], lane->offset + at % l->room_there + ALIGN - sizeof *h, h,
                                    sizeof *h, run->data[e->message] + p.from, p.bytes, 0);
    if (status == TC_OK) status = tc_plan_start(plan);
    if (status != TC_OK) return status == TC_FULL ? TC_AGAIN : status;
    e->last = lane->next++;
    lane->at = lane->end[slot] = at + bytes;
    run->finished[e->message]++;
    run->moved++;
    atomic_fetch_add_explicit(&l->net->parts, 1, memory_order_relaxed);
    if (p.last) {
        atomic_fetch_add_explicit(&l->net->messages, 1, memory_order_relaxed);
        add(&lane->leaving, take_first(&lane->waiting));
    }
    return TC_OK;
}

static int deliver(link *l, target_lane *lane) {
    int status = TC_OK;
    while (status == TC_OK && lane->waiting.first && its_turn(lane->waiting.first->run))
        status = put(l, lane, lane->waiting.first);
    if (status < 0) return status;
    return settle(lane);
}

/* Tell the peer what is consumed, where no message has carried it and it might have to wait for that. */
static int tell(link *l) {
    bool due = false;
    for (uint32_t t = 0; t < TURNS; t++) due = due || (pressed(l, &l->in[t]) && l->in[t].consumed != l->in[t].told);
    if (!due) return TC_OK;
    int status = tc_plan_test(l->credit_plan);
    if (status != TC_OK) return status == TC_AGAIN ? TC_OK : status;
    for (uint32_t t = 0; t < TURNS; t++) l->told[t] = l->in[t].consumed;
    status = tc_plan_start(l->credit_plan);
    if (status != TC_OK) return status == TC_FULL ? TC_OK : status;
    for (uint32_t t = 0; t < TURNS; t++) {
        l->in[t].told = l->told[t];
        l->in[t].told_at = l->in[t].freed_at;
    }
    atomic_fetch_add_explicit(&l->net->credits, 1, memory_order_relaxed);
    return TC_OK;
}

int link_advance(link *l) {
    int status = l->broken ? TC_ERR_TRANSPORT : TC_OK;
    for (uint32_t t = 0; t < TURNS && status == TC_OK; t++) {
        relieve(l, &l->in[t]); /* whoever reads it had a turn since it came */
        status = deliver(l, &l->out[t]);
        if (status == TC_OK) status = receive(l, &l->in[t]);
    }
    return status == TC_OK ? tell(l) : status;
}

/* --- for channels -------------------------------------------------------------------------------------------------- */
bool link_quiet(const link *l) {
    for (uint32_t t = 0; t < TURNS; t++)
        if (l->in[t].expected.first || l->out[t].waiting.first || l->out[t].leaving.first) return false;
    return true;
}

static void fail_all(queue *q, int status) {
    while (q->first) end(take_first(q), status);
}

void link_fail(link *l, int status) {
    l->broken = true;
    if (status != TC_ERR_PEER_LOST) tc_context_flush(l->net->context, FLUSH_SECONDS); /* the peer may look for the same */
    for (uint32_t t = 0; t < TURNS; t++) {
        fail_all(&l->in[t].expected, status);
        fail_all(&l->out[t].waiting, status);
        fail_all(&l->out[t].leaving, status);
    }
}

void lane_expect(link *l, entry *e) {
    add(&l->in[e->run->number % TURNS].expected, e);
}

void lane_send(link *l, entry *e) {
    add(&l->out[e->run->number % TURNS].waiting, e);
}
