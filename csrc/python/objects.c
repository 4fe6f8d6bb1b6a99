/* Calls on Python objects through memory that the ranks of a host share: every rank's frame goes to all in one phase.
 *
 * All ranks see the same frames, so they agree without a word on what cannot go this way: an operation of the program's
 * own, operations that differ, and objects too large to be reduced here are left to mpi4py; other large ones follow as
 * bytes, whose numbers are known by then.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "objects.h"

#define SLICE 0.01 /* seconds after which Python must handle signals */

typedef struct request { /* a call's arguments */
    enum object_call call;
    PyObject *object, *op, *root_given;
    int32_t root;
    uint32_t operation; /* 0: the program's own */
    PyObject *large;    /* bytes that did not fit the frame */
    frame *received;
    int32_t nframes;
    frame mine;
} request;

static const char *const names[OBJECT_CALLS] = {"allreduce", "allgather", "bcast", "gather", "reduce"};

/* --- arguments ------------------------------------------------------------------------------------------------ */
static bool reduces(enum object_call call) {
    return call == OF_ALLREDUCE || call == OF_REDUCE;
}

static bool has_root(enum object_call call) {
    return call != OF_ALLREDUCE && call != OF_ALLGATHER;
}

static PyObject **argument_named(request *r, PyObject *name) {
    if (PyUnicode_CompareWithASCIIString(name, r->call == OF_BCAST ? "obj" : "sendobj") == 0) return &r->object;
    if (reduces(r->call) && PyUnicode_CompareWithASCIIString(name, "op") == 0) return &r->op;
    if (has_root(r->call) && PyUnicode_CompareWithASCIIString(name, "root") == 0) return &r->root_given;
    return NULL;
}

/* Sort the arguments into their places; false if mpi4py would refuse them. */
static bool sort_arguments(request *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject **places[] = {&r->object, reduces(r->call) ? &r->op : NULL, has_root(r->call) ? &r->root_given : NULL};
    Py_ssize_t given = 0;
    for (int i = 0; i < 3; i++)
        if (places[i] && given < nargs) *places[i] = args[given++];
    if (given != nargs) return false;
    for (Py_ssize_t k = 0; kwnames && k < PyTuple_Size(kwnames); k++) {
        PyObject **place = argument_named(r, PyTuple_GetItem(kwnames, k));
        if (place == NULL || *place) return false;
        *place = args[nargs + k];
    }
    return r->object != NULL;
}

static bool read_root(request *r, int32_t size) {
    if (r->root_given == NULL) return true; /* 0 */
    PyObject *whole = PyNumber_Index(r->root_given);
    int overflow = 0;
    long value = whole ? PyLong_AsLongAndOverflow(whole, &overflow) : -1;
    Py_XDECREF(whole);
    PyErr_Clear(); /* mpi4py raises it again */
    r->root = (int32_t)value;
    return overflow == 0 && value >= 0 && value < size;
}

/* Read the operation: its number, from 1, if it is one of MPI's own. */
static void read_operation(request *r) {
    bool usual = r->op == NULL || Py_TYPE(r->op) == known_facts.op;
    intptr_t handle = r->op == NULL ? known_facts.sum : usual ? handle_at(r->op, known_facts.op_at) : 0;
    for (size_t i = 0; usual && i < known_facts.noperations; i++)
        if (known_facts.operations[i] == handle) r->operation = (uint32_t)i + 1;
    if (handle == known_facts.sum && usual) r->op = NULL; /* Python's plus */
}

/* --- what the frames say -------------------------------------------------------------------------------------- */
/* Let mpi4py make the call; all ranks have seen the same frames, and do so together. */
static PyObject *by_mpi4py(PyObject *self, const request *r) {
    PyObject *op = r->op ? r->op : Py_None;
    return PyObject_CallMethod(self, "_by_mpi4py", "sOOi", names[r->call], r->object, op, r->root);
}

static bool is_large(const request *r) {
    for (int32_t i = 0; i < r->nframes; i++)
        if (tag_of(&r->received[i]) == LARGE) return true;
    return false;
}

static bool operations_agree(const request *r) {
    for (int32_t i = 0; i < r->nframes; i++)
        if (operation_of(&r->received[i]) == 0 || operation_of(&r->received[i]) != r->operation) return false;
    return true;
}

/* Bring the bytes that did not fit; a list with those of each rank, None where there are none. */
static PyObject *bring_large(PyObject *self, const request *r) {
    PyObject *sizes = PyList_New(r->nframes);
    for (int32_t i = 0; sizes && i < r->nframes; i++) {
        const frame *f = &r->received[i];
        PyObject *n = PyLong_FromUnsignedLongLong(tag_of(f) == LARGE ? value_bytes(f) : 0);
        if (n == NULL || PyList_SetItem(sizes, i, n) < 0) Py_CLEAR(sizes);
    }
    if (sizes == NULL) return NULL;
    PyObject *data = r->large ? r->large : Py_None;
    PyObject *out = PyObject_CallMethod(self, "_bring_large", "sOOi", names[r->call], data, sizes, r->root);
    Py_DECREF(sizes);
    return out;
}

/* Read the objects of all frames into a list. */
static PyObject *read_all(const request *r, PyObject *large) {
    PyObject *out = PyList_New(r->nframes);
    for (int32_t i = 0; out && i < r->nframes; i++) {
        bool is = tag_of(&r->received[i]) == LARGE;
        PyObject *value = is ? value_unpickle(PyList_GetItem(large, i)) : value_read(&r->received[i]);
        if (value == NULL || PyList_SetItem(out, i, value) < 0) Py_CLEAR(out);
    }
    return out;
}

static PyObject *combined(const request *r, PyObject *earlier, PyObject *later) {
    return r->op ? PyObject_CallFunctionObjArgs(r->op, earlier, later, NULL) : PyNumber_Add(earlier, later);
}

/* Combine the values in the order of mpi4py's tree; takes them over. */
static PyObject *reduced(const request *r, PyObject *values) {
    Py_ssize_t n = values ? r->nframes : 0;
    for (Py_ssize_t step = 1; step < n; step *= 2)
        for (Py_ssize_t i = 0; i + step < n; i += 2 * step) {
            PyObject *value = combined(r, PyList_GetItem(values, i), PyList_GetItem(values, i + step));
            if (value == NULL || PyList_SetItem(values, i, value) < 0) {
                Py_DECREF(values);
                return NULL;
            }
        }
    PyObject *out = n ? PyList_GetItem(values, 0) : NULL;
    Py_XINCREF(out);
    Py_XDECREF(values);
    return out;
}

static PyObject *gathered(PyObject *self, const request *r, bool wanted) {
    PyObject *large = is_large(r) ? bring_large(self, r) : Py_None;
    if (large == NULL) return NULL;
    PyObject *out = wanted ? read_all(r, large) : Py_None;
    if (!wanted) Py_INCREF(out);
    if (large != Py_None) Py_DECREF(large);
    return out;
}

static PyObject *received_from_root(PyObject *self, const request *r, int32_t rank) {
    const frame *f = rank == r->root ? &r->mine : r->received;
    if (tag_of(f) != LARGE) return value_read(f);
    PyObject *data = r->large ? r->large : Py_None;
    PyObject *bytes = PyObject_CallMethod(self, "_bring_large", "sO[K]i", names[r->call], data,
                                          (unsigned long long)value_bytes(f), r->root);
    PyObject *out = value_unpickle(bytes);
    Py_XDECREF(bytes);
    return out;
}

static PyObject *result_of(PyObject *self, const request *r, int32_t rank) {
    bool wanted = !has_root(r->call) || rank == r->root;
    if (r->call == OF_BCAST) return received_from_root(self, r, rank);
    if (!reduces(r->call)) return gathered(self, r, wanted);
    if (!operations_agree(r) || is_large(r)) return by_mpi4py(self, r);
    if (wanted) return reduced(r, read_all(r, NULL));
    Py_RETURN_NONE;
}

/* --- the call ------------------------------------------------------------------------------------------------- */
/* Return what carries the frames of a call, made when first asked for; NULL with an error set. */
static carrier *carrier_of(PyObject *self, struct objects *o, const request *r) {
    carrier **all = &o->carriers[r->call];
    if (*all == NULL && (*all = calloc(has_root(r->call) ? (size_t)o->size : 1, sizeof **all)) == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    carrier *c = &(*all)[r->root];
    if (c->keep) return c;
    PyObject *made = PyObject_CallMethod(self, "_object_carrier", "si", names[r->call], r->root), *keep;
    unsigned long long run, state;
    bool read = made && PyArg_ParseTuple(made, "KKO", &run, &state, &keep);
    if (read) {
        *c = (carrier){(program)(uintptr_t)run, (void *)(uintptr_t)state, keep};
        Py_INCREF(keep);
    }
    Py_XDECREF(made);
    return read ? c : NULL;
}

static unsigned long long address(const void *at) {
    return (unsigned long long)(uintptr_t)at;
}

/* Bring the frames; 0, or -1 with an error set. */
static int bring(PyObject *self, const carrier *c, request *r) {
    carrier of = *c; /* the communicator may be freed meanwhile */
    Py_INCREF(of.keep);
    PyThreadState *thread = PyEval_SaveThread();
    int status = of.run(of.state, &r->mine, r->received, SLICE);
    PyEval_RestoreThread(thread);
    PyObject *done = status ? PyObject_CallMethod(self, "_resume", "OiKK", of.keep, status, address(&r->mine),
                                                  address(r->received))
                            : of.keep;
    if (status) Py_XDECREF(done);
    Py_DECREF(of.keep);
    return done ? 0 : -1;
}

/* Take the memory for frames, or other memory if another call is using it. */
static frame *take_memory(struct objects *o) {
    frame *found = o->received;
    o->received = NULL;
    return found ? found : malloc((size_t)o->size * sizeof(frame));
}

static void give_back_memory(memo *m, frame *received) {
    if (m && m->objects && m->objects->received == NULL)
        m->objects->received = received;
    else
        free(received);
}

static PyObject *call_with(PyObject *self, memo **at, request *r) {
    memo *m = *at;
    int32_t rank = m->rank;
    r->nframes = r->call == OF_BCAST ? 1 : m->size;
    bool writes = r->call != OF_BCAST || rank == r->root;
    if (writes && value_write(&r->mine, r->object, &r->large) < 0) return NULL;
    if (*at != m || m->objects == NULL) return NULL; /* freed by what was pickled */
    if (writes) r->mine.header |= (uint64_t)r->operation << 40;
    const carrier *c = carrier_of(self, m->objects, r);
    if (c == NULL) return NULL;
    r->received = take_memory(m->objects);
    if (r->received == NULL) return PyErr_NoMemory();
    PyObject *out = bring(self, c, r) == 0 ? result_of(self, r, rank) : NULL;
    give_back_memory(*at, r->received);
    return out;
}

PyObject *objects_call(PyObject *self, memo **at, enum object_call call, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames) {
    request r;
    memset(&r, 0, offsetof(request, mine) + sizeof r.mine.header);
    r.call = call;
    if (!sort_arguments(&r, args, nargs, kwnames) || !read_root(&r, (*at)->size)) return NULL;
    if (reduces(call)) read_operation(&r);
    PyObject *out = call_with(self, at, &r);
    Py_XDECREF(r.large);
    return out;
}

/* --- the memory ----------------------------------------------------------------------------------------------- */
struct objects *objects_new(int32_t size) {
    struct objects *o = calloc(1, sizeof *o);
    if (o == NULL) return NULL;
    o->size = size;
    o->received = malloc((size_t)size * sizeof(frame));
    return o;
}

void objects_free(struct objects *o) {
    if (o == NULL) return;
    for (int k = 0; k < OBJECT_CALLS; k++) {
        size_t n = o->carriers[k] == NULL ? 0 : has_root((enum object_call)k) ? (size_t)o->size : 1;
        for (size_t i = 0; i < n; i++) Py_XDECREF(o->carriers[k][i].keep);
        free(o->carriers[k]);
    }
    free(o->received);
    free(o);
}

int objects_visit(struct objects *o, visitproc visit, void *arg) {
    for (int k = 0; o && k < OBJECT_CALLS; k++) {
        size_t n = o->carriers[k] == NULL ? 0 : has_root((enum object_call)k) ? (size_t)o->size : 1;
        for (size_t i = 0; i < n; i++) Py_VISIT(o->carriers[k][i].keep);
    }
    return 0;
}
