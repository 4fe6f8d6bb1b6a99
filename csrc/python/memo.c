/* Which calls are known, and what serves them. */
#include <limits.h>
#include <stdlib.h>

#include "objects.h"

#define SELDOM 8u /* of so many calls that find no room, or were refused before, one is tried again */

static uint64_t serials;

entry *memo_find(memo *m, const call *c) {
    entry *known = m->known[c->collective];
    for (int i = 0; known && i < KNOWN && known[i].serial; i++) {
        entry *e = &known[i];
        if (e->type == c->type.handle && c->bytes >= e->first && c->bytes < e->end && e->op == c->op &&
            e->root == c->root && e->token == c->token && e->in_place == c->in_place && (e->native || e->keep))
            return e;
    }
    return NULL;
}

/* Return an entry that serves nothing: a new one, or one whose program was lost; NULL if there is none. */
static entry *free_entry(entry *known) {
    for (int i = 0; i < KNOWN; i++)
        if (known[i].serial == 0 || (!known[i].native && known[i].keep == NULL)) return &known[i];
    return NULL;
}

bool memo_wants(memo *m, const call *c) {
    entry *known = m->known[c->collective];
    bool room = known == NULL || free_entry(known) != NULL;
    if (room && m->refused[c->collective] == 0) return true;
    return ++m->refused[c->collective] % SELDOM == 0;
}

/* The bytes above which MPI's count, an int, ends. */
static uint64_t most_bytes(const memo *m, const call *c) {
    bool whole = c->collective == ALLGATHER || c->collective == ALLTOALL || c->collective == REDUCE_SCATTER_BLOCK;
    return (uint64_t)INT_MAX * (uint64_t)(c->type.bytes ? c->type.bytes : 1) * (uint64_t)(whole ? m->size : 1);
}

/* Read what serves a call; false, with an error set, if it is neither native nor a program. */
static bool read_value(const memo *m, const call *c, PyObject *value, entry *e) {
    unsigned long long first, second;
    int in_place;
    PyObject *keep = NULL;
    if (PyTuple_Check(value) && PyTuple_Size(value) == 2) {
        if (!PyArg_ParseTuple(value, "KK", &first, &second)) return false;
        uint64_t most = most_bytes(m, c);
        e->native = true;
        e->first = first;
        e->end = second < most ? second : most + 1;
        return true;
    }
    if (!PyArg_ParseTuple(value, "KKOp", &first, &second, &keep, &in_place)) return false;
    if ((bool)in_place != c->in_place) {
        PyErr_SetString(PyExc_AssertionError, "the recogniser and the reader differ over where the input lies");
        return false;
    }
    e->first = c->bytes;
    e->end = c->bytes + 1;
    e->run = (program)(uintptr_t)first;
    e->state = (void *)(uintptr_t)second;
    e->keep = keep;
    return true;
}

/* Return the entry that a new call takes; NULL if there is no memory. */
static entry *entry_for(memo *m, enum collective collective) {
    entry **known = &m->known[collective];
    if (*known == NULL && (*known = calloc(KNOWN, sizeof **known)) == NULL) return NULL;
    entry *found = free_entry(*known);
    if (found) return found;
    m->next[collective] = (m->next[collective] + 1) % KNOWN;
    return &(*known)[m->next[collective]];
}

int memo_learn(memo *m, const call *c, PyObject *value) {
    /* Where memory is both input and result, but MPI.IN_PLACE is not named, mpi4py's releases differ. */
    bool judged = c->in_place && !c->token && c->collective != BCAST;
    entry new = {.token = c->token, .in_place = c->in_place, .root = c->root, .op = c->op, .type = c->type.handle};
    if (value != Py_None && !read_value(m, c, value, &new)) return -1;
    entry *e = NULL;
    if (value != Py_None && !(new.native && (judged || c->bytes >= new.end))) e = entry_for(m, c->collective);
    if (e == NULL) {
        m->refused[c->collective] += m->refused[c->collective] == 0;
        return 0;
    }
    m->refused[c->collective] = 0;
    m->remembered++;
    new.serial = ++serials;
    Py_XINCREF(new.keep);
    PyObject *old = e->keep;
    *e = new;
    Py_XDECREF(old);
    return 0;
}

void memo_free(memo *m) {
    for (int k = 0; k < COLLECTIVES; k++) {
        for (int i = 0; m->known[k] && i < KNOWN; i++) Py_XDECREF(m->known[k][i].keep);
        free(m->known[k]);
    }
    objects_free(m->objects);
    free(m);
}
